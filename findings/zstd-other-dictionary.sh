#!/usr/bin/env bash
# With another dictionary than the right one, zstd decompresses without an error, to other bytes.
#
# Of:       zstd by python-zstandard 0.25.0 (PyPI), which brings libzstd along
# Input:    a JSON body, compressed with a dictionary of plain content, in a frame with the library's defaults;
#           decompressed with that dictionary, with another of the same length, and with none.
# Expected: a frame names its dictionary, so another one is refused, or at least a checksum shows the mistake.
# Seen:     a dictionary of plain content has the id 0, which is not written, and a frame has no checksum by default.
#           The other dictionary gives a body of the right length with pieces of that dictionary in it. Only
#           decompression without any dictionary fails.
# Needs:    Python 3 with pip
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m pip install --quiet --target packages zstandard==0.25.0 2>pip.log
cat >try.py <<'PYTHON'
import zstandard

BODY = b'{"order":"tee","links":[{"href":"https://shop.example/v2/session/","method":"GET"}]}' * 3


def dictionary(content):
    return zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


right = dictionary(b'"href":"https://shop.example/v2/session/","method":"GET" order' * 20)
other = dictionary(b'"href":"https://bank.example/v2/account/","method":"PUT" payee' * 20)
frame = zstandard.ZstdCompressor(dict_data=right).compress(BODY)
head = zstandard.get_frame_parameters(frame)
print(f"the frame names dictionary {head.dict_id}")
for name, given in (("the right", right), ("another", other), ("no", None)):
    try:
        body = zstandard.ZstdDecompressor(dict_data=given).decompress(frame)
        same = "the same" if body == BODY else "other"
        print(f"{name} dictionary: {same} bytes, {'as many' if len(body) == len(BODY) else 'not as many'}")
    except zstandard.ZstdError:
        print(f"{name} dictionary: an error")
PYTHON
cat >seen <<'TEXT'
the frame names dictionary 0
the right dictionary: the same bytes, as many
another dictionary: other bytes, as many
no dictionary: an error
TEXT
PYTHONPATH=packages python3 try.py >found
diff seen found && cat found
