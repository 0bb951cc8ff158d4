"""HTTP: certificate status, the API, the console."""
