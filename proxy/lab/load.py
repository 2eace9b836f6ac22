"""The load generator, a process of its own: `python -m proxy.lab.load`.

Jobs come as lines of JSON on standard input, answers go as lines of JSON to standard output (see
`load_job`). It is written by hand, with llhttp on uvloop and nothing between, because it must need
less CPU for a request than any server that it is to measure.
"""

import asyncio
import resource
import sys
import time

import msgspec
import uvloop

from proxy.lab.load_crowds import ClosedCrowd, OpenCrowd
from proxy.lab.load_job import CrowdTold, LoadJob, Ready, Told
from proxy.lab.load_staying import IdleCrowd, SlowCrowd


def main() -> None:
    """Do jobs until standard input ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for line in sys.stdin.buffer:
        job = msgspec.json.decode(line, type=LoadJob)
        put(uvloop.run(do(job)))


def put(told: Ready | Told) -> None:
    """Write a line to the lab."""
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


async def do(job: LoadJob) -> Told:
    """Bring the crowds that stay into place, let the others ask, and count."""
    staying: dict[int, IdleCrowd | SlowCrowd] = {}
    asking: dict[int, ClosedCrowd | OpenCrowd] = {}
    for place, crowd in enumerate(job.crowds):
        match crowd.kind:
            case "idle":
                staying[place] = IdleCrowd(job, crowd)
            case "upload" | "download":
                staying[place] = SlowCrowd(job, crowd)
            case "closed":
                asking[place] = ClosedCrowd(job, crowd)
            case "open":
                asking[place] = OpenCrowd(job, crowd)
    connected = await asyncio.gather(*(crowd.settle() for crowd in staying.values()))
    put(Ready(connected=sum(connected)))
    began_at, cpu_began_s = time.monotonic(), time.process_time()
    told: dict[int, CrowdTold] = dict(
        zip(asking, await asyncio.gather(*(crowd.run() for crowd in asking.values())), strict=True)
    )
    took_s, cpu_s = time.monotonic() - began_at, time.process_time() - cpu_began_s
    for place, one in staying.items():
        told[place] = await one.leave()
    return Told(
        crowds=[told[place] for place in range(len(job.crowds))], took_s=took_s, cpu_s=cpu_s
    )


if __name__ == "__main__":
    main()
