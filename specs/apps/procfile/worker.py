import os
import time

number = 0
while True:
    number += 1
    print(f"worker {os.environ.get('CF_INSTANCE_INDEX', '?')} did job {number}", flush=True)
    time.sleep(1)
