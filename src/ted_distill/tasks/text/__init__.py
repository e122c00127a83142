"""Language modelling on running text."""
