"""img2dataset on the same photos, through file:// URLs: `_img2dataset.py FOLDER OUTPUT PROCESSES`.

It resizes with OpenCV's "area" (its default), whose quality is that of Pillow's bilinear; it crops to a square instead
of stretching; and it hashes the content of each file, as Penstock does.
"""

import sys
from pathlib import Path

from img2dataset import download

if __name__ == "__main__":
    folder, output, processes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    urls = [path.resolve().as_uri() for path in sorted(folder.rglob("*.jpg"))]
    output.mkdir(parents=True)
    (output / "urls.txt").write_text("\n".join(urls))
    download(
        url_list=str(output / "urls.txt"),
        output_folder=str(output / "shards"),
        image_size=224,
        resize_mode="center_crop",
        encode_quality=90,
        output_format="webdataset",
        processes_count=processes,
        thread_count=32,
        number_sample_per_shard=len(urls) // (2 * processes) + 1,
    )
