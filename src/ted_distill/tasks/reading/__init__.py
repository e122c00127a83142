"""Files and Hub data sets -> rows, columns and labels."""
