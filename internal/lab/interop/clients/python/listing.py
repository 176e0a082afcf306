"""Lists buckets with the C++ SDK, which is what pyarrow's S3FileSystem is."""
from pyarrow import fs

buckets = fs.S3FileSystem().get_file_info(fs.FileSelector("", recursive=False))
print("buckets:", len(buckets))
