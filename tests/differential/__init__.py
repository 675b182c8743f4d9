"""Random LogQL over random data, asked of this server and of a real Loki, compared to the last byte.

`python3 -m differential` (from `tests/`) compares; `LOKI` names the Loki binary. What it finds is shrunk to a small
query over few entries and written to `found/`, with the answer Loki gave; `test_differential.py` asks these again,
without any Loki.
"""
