"""Where images lie that are no files of their own: in tar and Parquet files, on the web, in stores of objects."""
