"""Progress and tables as text, whoever reads them."""
