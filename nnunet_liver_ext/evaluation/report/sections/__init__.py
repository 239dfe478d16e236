"""What the pages are made of besides plots and pictures: cards, tables, case sections, methods."""
