"""Builds, sorts, pickles and drops a graph of objects, with threads that share it."""

import hashlib
import json
import pickle
import random
import threading
import zlib

random.seed(20)
words = ["".join(random.choices("abcdefghij", k=random.randint(1, 40))) for _ in range(200_000)]
index = {}
for number, word in enumerate(words):
    index.setdefault(word[:3], []).append((number, word, {word: [number, str(number)]}))

digests = [None] * 4


def digest(part):
    total = hashlib.sha256()
    for key in sorted(index)[part::4]:
        total.update(json.dumps(index[key], sort_keys=True).encode())
        total.update(zlib.compress(pickle.dumps(index[key]), 1))
    digests[part] = total.hexdigest()


threads = [threading.Thread(target=digest, args=(part,)) for part in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(index), *digests)
