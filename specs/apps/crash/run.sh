#!/bin/sh
echo "starting"
echo "cannot open the database: connection refused" >&2
exit 1
