"""A real SLURM on this machine: slurmctld, and two slurmd that pass for nodes with two GPUs."""

from __future__ import annotations

import os
import re
import shlex
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from drill import wait_until

NODES = ("n1", "n2")
CONFIGURATION = """\
ClusterName=drill
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=3,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
MessageTimeout=60
KillWait=30
MinJobAge=3600
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdSpoolDir={folder}/spool.%n
TmpFS={folder}/tmp.%n
GresTypes=gpu
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
# More than the machine has: the drills share its cores, and SLURM does not look (config_overrides).
NODE = (
    "NodeName={name} NodeHostname={name} NodeAddr=127.0.0.1 Port={port} CPUs=4 SocketsPerBoard=1 "
    "CoresPerSocket=4 ThreadsPerCore=1 RealMemory=64000 Gres=gpu:2 State=UNKNOWN\n"
)
# Open MPI wants a host name and shared memory of its own for each node.
NODE_DAEMON = (
    "hostname {name} && mount -t tmpfs tmpfs /dev/shm && mount --bind {hosts} /etc/hosts "
    "&& exec slurmd -D -N {name}"
)
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL")


class Cluster:
    """Lives in `folder`, listens on the loopback only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons: list[subprocess.Popen] = []
        self.hurried: set[tuple[str, str]] = set()
        self.write_configuration()

    def write_configuration(self) -> None:
        folder = self.folder
        (folder / "state").mkdir()
        folder.chmod(0o755)  # munge wants to be sure who can write there
        host = socket.gethostname().split(".")[0]
        conf = CONFIGURATION.format(host=host, folder=folder)
        hosts = Path("/etc/hosts").read_text()
        gpus = ""
        for number, name in enumerate(NODES):
            (folder / f"spool.{name}").mkdir()
            (folder / f"tmp.{name}").mkdir()  # PMIx would find the files of the other node
            conf += NODE.format(name=name, port=17000 + number)
            hosts += f"127.0.0.1 {name}\n"
            gpus += f"NodeName={name} Name=gpu File={folder}/gpu[0-1]\n"
        for number in range(2):  # character devices that do nothing, as /dev/null
            os.mknod(folder / f"gpu{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (folder / "slurm.conf").write_text(conf)
        (folder / "gres.conf").write_text(gpus)
        (folder / "hosts").write_text(hosts)
        (folder / "key").write_bytes(os.urandom(128))
        (folder / "key").chmod(0o400)

    def daemon(self, *command: str | Path) -> None:
        with (self.folder / "daemons.log").open("ab") as log:
            self.daemons.append(
                subprocess.Popen(
                    list(map(str, command)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self.environment,
                )
            )

    def start(self) -> None:
        own = {name: self.folder / f"munge.{name}" for name in ("sock", "pid", "log", "seed")}
        self.daemon(
            *("munged", "--foreground", "--force", f"--key-file={self.folder / 'key'}"),
            *(f"--socket={own['sock']}", f"--pid-file={own['pid']}"),
            *(f"--log-file={own['log']}", f"--seed-file={own['seed']}"),
        )
        assert wait_until(own["sock"].exists), self.logs()
        self.daemon("slurmctld", "-D")
        for name in NODES:
            script = NODE_DAEMON.format(name=name, hosts=shlex.quote(f"{self.folder}/hosts"))
            unshare = ("unshare", "--uts", "--ipc", "--mount", "--propagation", "unchanged")
            self.daemon(*unshare, "sh", "-c", script)
        assert wait_until(self.idle, 120), self.logs()

    def idle(self) -> bool:
        time.sleep(0.1)  # each look is a process
        states = subprocess.run(
            ["sinfo", "-h", "-N", "-o", "%T"],
            capture_output=True,
            text=True,
            env=self.environment,
        ).stdout
        return states.split() == ["idle"] * len(NODES)

    def stop(self) -> None:
        if self.daemons and self.daemons[-1].poll() is None:
            subprocess.run(["scancel", "--user=root"], env=self.environment, capture_output=True)
            wait_until(self.idle, 40)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def logs(self) -> str:
        return "\n".join(
            f"{path.name}:\n{path.read_text(errors='replace')[-2000:]}"
            for path in sorted(self.folder.glob("*.log"))
        )

    def run(self, *command: str | Path, **variables: str) -> str:
        """Output of one of SLURM's commands, which must succeed."""
        done = subprocess.run(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            env=self.environment | variables,
            cwd=self.folder,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def job(self, number: str) -> dict[str, str]:
        """What SLURM knows of a job: JobState, Restarts, ExitCode ..."""
        shown = self.run("scontrol", "show", "job", "--oneliner", number)
        return dict(re.findall(r"(\w+)=(\S*)", shown))

    def state(self, number: str) -> str:
        """Of a job, or of all elements of an array in turn."""
        shown = self.run("scontrol", "show", "job", "--oneliner", number)
        return " ".join(re.findall(r"JobState=(\S+)", shown))

    def wait(self, *numbers: str, timeout: float = 300) -> None:
        """Until all have ended. Requeued jobs, which SLURM holds back for minutes, start soon."""
        assert wait_until(lambda: all(self.has_ended(number) for number in numbers), timeout), (
            "\n".join(self.run("scontrol", "show", "job", number) for number in numbers)
            + self.logs()
        )

    def reaches(self, number: str, condition: Callable[[], bool], timeout: float = 120) -> bool:
        """Whether the condition came to hold before the job ended."""
        return wait_until(lambda: condition() or self.has_ended(number), timeout) and condition()

    def has_ended(self, number: str) -> bool:
        time.sleep(0.2)  # each look is a process
        states = self.state(number).split()
        if "PENDING" in states:
            self.hurry(number)
        return all(state in FINAL for state in states)

    def hurry(self, number: str) -> None:
        job = self.job(number)
        incarnation = (number, job["Restarts"])
        if job["Reason"] == "BeginTime" and incarnation not in self.hurried:
            self.hurried.add(incarnation)
            # Not at once: in the second in which it ended, its nodes would refuse it for good.
            self.run("scontrol", "update", f"jobid={number}", "starttime=now+3")

    def submit(self, *words: str | Path, **variables: str) -> str:
        """Number of a job that sbatch was given with these words."""
        return self.run("sbatch", "--parsable", *words, **variables).strip()

    def stop_gracefully(self, number: str) -> None:
        """What SLURM does before a time limit with --signal=B:USR1@…"""
        self.run("scancel", "--signal=USR1", "--batch", number)
