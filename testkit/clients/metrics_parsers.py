"""Reads a page of metrics with the parser of its format, as the client library of Prometheus has it.

Usage: metrics_parsers.py text|openmetrics < page. Prints each family with its type, and the value of each bucket +Inf.
"""

import sys

if sys.argv[1] == "openmetrics":
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
else:
    from prometheus_client.parser import text_string_to_metric_families as parse

for family in parse(sys.stdin.read()):
    print("family", family.name, family.type, "documented" if family.documentation else "undocumented")
    for sample in family.samples:
        if sample.labels.get("le") == "+Inf":
            print("inf", sample.name, sample.labels.get("result", "-"), int(sample.value))
