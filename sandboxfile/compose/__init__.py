"""The services of a file, as Compose judges and reads them."""
