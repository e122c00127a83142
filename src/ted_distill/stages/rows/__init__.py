"""Rows besides those of the training itself: samples, rows held out, rows without labels, rows to fit students on."""
