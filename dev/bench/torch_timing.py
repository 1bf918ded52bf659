"""Times training steps of several programs, one at a time and in turn; for dev/bench/compare_torch.sh.

    torch_timing.py MODEL BATCH ROUNDS STEPS CSV LOGS NAME=COMMAND...

Each COMMAND trains forever and prints a line that begins with "loss" or "step" after every training step. It is started,
left to do its first steps (start-up, data, compilation: not timed), and stopped by a signal. Then, in every round, each
continues in turn while the others are stopped: the step in which it was stopped is not timed, the next STEPS are, and it
is stopped again. The order is reversed in every other round. Ratios are taken within a round, so that a slowdown of the
machine affects all. The others are compared with the first NAME. CSV gets a line for every measurement, the folder LOGS
the programs' stderr.
"""
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time

FIRST_STEPS = 3


class Program:
    def __init__(self, name, command, logs):
        self.name = name
        self.times = []  # ms per step, one per round
        self.log = os.path.join(logs, name.replace(" ", "-") + ".log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(shlex.split(command), stdout=subprocess.PIPE, stderr=log,
                                            start_new_session=True)
        self.started = False

    def start(self):
        self.started = self.wait_steps(FIRST_STEPS)
        if self.started:
            self.send(signal.SIGSTOP)

    def send(self, signal_number):
        os.killpg(self.process.pid, signal_number)

    def wait_steps(self, count):
        """Reads until so many steps are done; False if the program ended before."""
        while count > 0:
            line = self.process.stdout.readline()
            if not line:
                return False
            count -= line.startswith((b"loss", b"step"))
        return True

    def time_steps(self, count):
        self.send(signal.SIGCONT)
        self.wait_steps(1)
        start = time.perf_counter()
        if not self.wait_steps(count):
            sys.exit(f"{self.name} ended while it was timed")
        self.times.append(1e3 * (time.perf_counter() - start) / count)
        self.send(signal.SIGSTOP)

    def end(self):
        if self.process.poll() is None:
            self.send(signal.SIGKILL)
        self.process.wait()


def print_rows(model, batch, programs):
    ours = programs[0].times
    for program in programs:
        if not program.started:
            print(f"{model:<14} {program.name:<26} does not run: see {program.log}")
            continue
        ms = statistics.median(program.times)
        ratios = sorted(a / b for a, b in zip(program.times, ours))
        print(f"{model:<14} {program.name:<26} {ms:9.1f} {1e3 * batch / ms:9.1f} {statistics.median(ratios):9.2f}   "
              f"{ratios[0]:.2f} - {ratios[-1]:.2f}", flush=True)


def main():
    model, batch, rounds, steps = sys.argv[1], *map(int, sys.argv[2:5])
    programs = []
    for signal_number in (signal.SIGTERM, signal.SIGHUP):  # no started program may be left behind, stopped
        signal.signal(signal_number, lambda *_: sys.exit("stopped by a signal"))
    try:
        for argument in sys.argv[7:]:
            name, command = argument.split("=", 1)
            programs.append(Program(name, command, sys.argv[6]))
            programs[-1].start()
            if not programs[0].started:
                sys.exit(f"{name} does not run: see {programs[0].log}")
        running = [program for program in programs if program.started]
        for r in range(rounds):
            for program in running if r % 2 == 0 else reversed(running):
                program.time_steps(steps)
    finally:
        for program in programs:
            program.end()
    print_rows(model, batch, programs)
    with open(sys.argv[5], "a") as csv:
        for program in running:
            csv.writelines(f"{model},{program.name},{r},{ms:.3f}\n" for r, ms in enumerate(program.times))


main()
