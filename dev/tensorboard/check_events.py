#!/usr/bin/env python3
"""./train_kat --tensorboard against TensorBoard's own reader: a run that is killed midway and resumed; every number of
metrics.csv must be there under its tag, in order and with its digits, every histogram of a learned function at every
evaluation, and the picture of the first batch.

    make check-tensorboard                          or, with another Python that has tensorboard:
    python3 dev/tensorboard/check_events.py

Exit status 1 if something is wrong. Needs Python, unlike the programs here, and so is not part of make test."""
import csv, os, signal, subprocess, sys, tempfile, time
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

FLAGS = ("--device cpu --model kat-mini-g3b --dim 24 --depth 2 --image-size 16 --batch-size 16 --train-images 400 "
         "--test-images 100 --epochs 30 --log-every 3 --hflip 0.5 --mixup 0.8 --tensorboard").split()
TRAIN = os.environ.get("TRAIN_KAT", "./train_kat")
SIX_DIGITS = ("lr", "grad_norm")  # the others have that many after the point


def kill_on_its_way(folder):
    """Ends with rows after the last checkpoint, which come again."""
    run = subprocess.Popen([TRAIN, *FLAGS, "--output", folder], stdout=subprocess.DEVNULL)
    log = os.path.join(folder, "metrics.csv")
    while run.poll() is None and (not os.path.exists(log) or sum(1 for _ in open(log)) < 100):
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    run.wait()


def rows_of(folder):
    with open(os.path.join(folder, "metrics.csv")) as text:
        return list(csv.DictReader(text))


def half_digit(column, text):
    if column in SIX_DIGITS:
        return 6e-6 * abs(float(text))
    return 0.51 * 10.0 ** -len(text.partition(".")[2]) + 1e-6 * abs(float(text))


def check_scalars(events, rows):
    count = 0
    for column in rows[0]:
        if column in ("step", "epoch"):
            continue
        tag = "eval_" + column[5:] if column.startswith("test_") else column
        wanted = [(int(row["step"]), row[column]) for row in rows if row[column]]
        found = events.Scalars(tag)
        assert [e.step for e in found] == [step for step, _ in wanted], tag
        for event, (step, text) in zip(found, wanted):
            assert abs(event.value - float(text)) <= half_digit(column, text), (tag, step, event.value, text)
            count += 1
    return count


def main():
    with tempfile.TemporaryDirectory() as work:
        folder = os.path.join(work, "run")
        kill_on_its_way(folder)
        killed_at = int(rows_of(folder)[-1]["step"])
        subprocess.run([TRAIN, *FLAGS, "--output", folder, "--continue"], check=True, stdout=subprocess.DEVNULL)
        rows = rows_of(folder)
        events = EventAccumulator(folder, size_guidance=dict.fromkeys(("scalars", "histograms", "images"), 0))
        events.Reload()
        count = check_scalars(events, rows)
        evaluated = [int(row["step"]) for row in rows if row["test_top1"]]
        histograms = events.Tags()["histograms"]
        assert len(histograms) == 2 * 8, histograms  # per block: KArAt's coefficients, two scales, W; two rationals' a and b
        for tag in histograms:
            assert [h.step for h in events.Histograms(tag)] == evaluated, tag
        picture = events.Images("first_batch")[0]
        assert picture.encoded_image_string[:4] == b"\x89PNG" and picture.step == 0
        print(f"killed at step {killed_at}, then to {rows[-1]['step']}: {count} numbers, {len(histograms)} histograms of "
              f"{len(evaluated)} evaluations, a picture of {picture.width} x {picture.height}: as they should be")


if __name__ == "__main__":
    try:
        main()
    except AssertionError as off:
        sys.exit(f"off: {off}")
