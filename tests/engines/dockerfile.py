"""Builds an image without Docker: a Dockerfile's stages as folders, its steps run in them by overlay mounts and chroot.

The base images cannot be pulled, so a `Base` makes a folder that has what one of them has. All else is the
Dockerfile's own: each RUN line as it stands, in the user, folder, shell and environment that it would have.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

Base = Callable[[Path], None]
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NETWORK = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "PIP_CERT", "SSL_CERT_FILE", "UV_SYSTEM_CERTS")


@dataclass(frozen=True)
class Instruction:
    """A line of a Dockerfile, continued lines joined: `RUN --mount=type=cache,target=/x uv sync`."""

    name: str
    flags: tuple[tuple[str, str], ...]
    text: str


@dataclass(frozen=True)
class Image:
    """What a stage came to: folders that lie upon each other, and how a process starts in them."""

    layers: tuple[Path, ...]  # the topmost first
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    user: str = "0"
    folder: str = "/"
    shell: tuple[str, ...] = ("/bin/sh", "-c")
    entry_point: tuple[str, ...] = ()


def parse(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    return [_instruction(line) for line in joined.splitlines() if line.strip()]


def _instruction(line: str) -> Instruction:
    name, _, rest = line.strip().partition(" ")
    flags = []
    while match := re.match(r"--([\w-]+)=(\S+)\s+", rest.lstrip()):
        flags.append((match[1], match[2]))
        rest = rest.lstrip()[match.end() :]
    return Instruction(name.upper(), tuple(flags), rest.strip())


def build(dockerfile: Path, bases: Mapping[str, Base], caches: Mapping[str, Path], work: Path) -> Image:
    """Builds all stages of a Dockerfile whose context is its own folder, and returns the last.

    Args:
      dockerfile: the file.
      bases: what makes the base images, by their names' beginnings.
      caches: folders of this machine for RUN's cache mounts, by the mount's target.
      work: an empty folder for the layers.

    Raises:
      subprocess.CalledProcessError: a RUN step failed.
    """
    return _Build(dockerfile, bases, caches, work).run()


class _Build:
    def __init__(self, dockerfile: Path, bases: Mapping[str, Base], caches: Mapping[str, Path], work: Path) -> None:
        self._instructions = parse(dockerfile.read_text())
        self._bases, self._caches, self._work = bases, caches, work
        self._arguments: dict[str, str] = {}
        self._stages: dict[str, Image] = {}
        self._context = self._new_folder("context")
        _copy_context(dockerfile.parent, self._context)

    def run(self) -> Image:
        image, stage = Image(()), ""
        for each in self._instructions:
            text = re.sub(r"\$\{(\w+)\}", lambda match: self._arguments.get(match[1], match[0]), each.text)
            match each.name:
                case "ARG":
                    name, _, value = text.partition("=")
                    self._arguments.setdefault(name, value)
                case "FROM":
                    name, _, stage = text.partition(" AS ")
                    image = self._begin(name)
                case "RUN":
                    self._run(image, each.flags, text)
                case "COPY":
                    self._copy(image, dict(each.flags), shlex.split(text))
                case "WORKDIR":
                    image = replace(image, folder=os.path.join(image.folder, text))
                    in_image(image, ["mkdir", "-p", image.folder])
                case "ENV":
                    pairs = dict(pair.split("=", 1) for pair in shlex.split(text))
                    image = replace(image, environment={**image.environment, **pairs})
                case "USER":
                    image = replace(image, user=text)
                case "SHELL":
                    image = replace(image, shell=tuple(json.loads(text)))
                case "ENTRYPOINT":
                    image = replace(image, entry_point=tuple(json.loads(text)))
                case "LABEL":
                    assert all("=" in pair for pair in shlex.split(text)), text
                case _:
                    raise ValueError(f"expected an instruction that this builder knows, found {each.name}")
            self._stages[stage] = image
        return image

    def _begin(self, name: str) -> Image:
        """A stage upon another, or upon what stands for a base image."""
        if name in self._stages:
            below = self._stages[name]
            return replace(below, layers=(self._new_folder("layer"), *below.layers))
        (base,) = (each for prefix, each in self._bases.items() if name.startswith(prefix))
        root = self._new_folder("base")
        base(root)
        return Image((self._new_folder("layer"), root))

    def _run(self, image: Image, flags: Sequence[tuple[str, str]], text: str) -> None:
        mounts = {}
        for _, value in flags:
            mount = dict(part.split("=", 1) for part in value.split(","))
            if mount["type"] == "cache":
                mounts[mount["target"]] = self._caches[mount["target"]]
            else:
                mounts[mount["target"]] = self._take(self._stages[mount["from"]], mount["source"])
        machine = {name: os.environ[name] for name in _NETWORK if name in os.environ}
        in_image(image, [*image.shell, text], mounts, {"HOME": "/root", **machine})

    def _take(self, image: Image, source: str) -> Path:
        """A folder or file of a stage, as it is when all of the stage's layers lie upon each other."""
        found = [layer / source.lstrip("/") for layer in image.layers if (layer / source.lstrip("/")).exists()]
        assert len(found) == 1, f"expected one layer with {source}, found {found}"
        return found[0]

    def _copy(self, image: Image, flags: Mapping[str, str], names: Sequence[str]) -> None:
        *sources, target = names
        place = image.layers[0] / os.path.join(image.folder, target).lstrip("/")
        for source in sources:
            taken = self._take(self._stages[flags["from"]], source) if "from" in flags else self._context / source
            if taken.is_dir():
                shutil.copytree(taken, place, symlinks=True, dirs_exist_ok=True, copy_function=link_file)
            elif target.endswith("/"):
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy2(taken, place / taken.name)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(taken, place)

    def _new_folder(self, kind: str) -> Path:
        folder = self._work / f"{kind}-{len(list(self._work.iterdir()))}"
        folder.mkdir()
        folder.chmod(0o755)
        return folder


def link_file(source: str, target: str) -> None:
    """Lower layers are never written to, so that gigabytes need not be copied."""
    os.link(source, target, follow_symlinks=False)


def _copy_context(source: Path, context: Path) -> None:
    """Copies what .dockerignore lets through: it begins with `*`, then names what is needed."""
    lines = (source / ".dockerignore").read_text().splitlines()
    first, *patterns = [line for line in lines if line and not line.startswith("#")]
    assert first == "*"
    ignored = [pattern.removeprefix("**/") for pattern in patterns if pattern.startswith("**/")]
    for pattern in patterns:
        if pattern.startswith("!"):
            if (source / pattern[1:]).is_dir():
                shutil.copytree(source / pattern[1:], context / pattern[1:], ignore=shutil.ignore_patterns(*ignored))
            else:
                shutil.copy2(source / pattern[1:], context / pattern[1:])


def command_in(
    image: Image,
    command: Sequence[str],
    mounts: Mapping[str, Path] | None = None,
    environment: Mapping[str, str] | None = None,
    writable: Sequence[str] = (),
) -> list[str]:
    """The command line that runs a command in an image: what it starts ends with it, what it writes is the top layer's.

    Args:
      image: the image.
      command: the command, looked up in the image's PATH.
      mounts: folders of this machine, by where they are in the image.
      environment: variables besides the image's.
      writable: where any, the image is read-only but for `mounts` and these folders, which are empty at first.
    """
    top, *below = image.layers
    scratch = top.with_name(f"{top.name}.mounts")
    for name in ("work", "root"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
    root = scratch / "root"
    options = f"lowerdir={':'.join(map(str, below))},upperdir={top},workdir={scratch}/work"
    steps = [
        "PATH=$PATH:/usr/sbin:/sbin",
        f"mount -t overlay overlay -o {options} {root}",
        f"mkdir -p {root}/proc {root}/dev {root}/tmp",
        f"mount -t proc proc {root}/proc",
        f"mount --rbind /dev {root}/dev",
    ]
    for target, source in (mounts or {}).items():
        steps += [f"mkdir -p {root}{target}", f"mount --bind {shlex.quote(str(source))} {root}{target}"]
    if writable:
        steps += [f"mount -t tmpfs -o mode=1777 tmpfs {root}{folder}" for folder in writable]
        steps.append(f"mount -o remount,bind,ro {root}")
    variables = [f"{name}={value}" for name, value in {**image.environment, **(environment or {})}.items()]
    inner = ["env", "-i", *variables, "sh", "-c", f'cd {shlex.quote(image.folder)} && exec "$@"', "sh", *command]
    user = [] if image.user == "0" else [f"--userspec={image.user}:0", "--groups=0"]
    steps.append(f'exec chroot {shlex.join(user)} {root} {shlex.join(inner)} "$@"')
    shell = ["sh", "-euc", "\n".join(steps), "sh"]
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", *shell]


def new_container(image: Image, folder: Path) -> Image:
    """The image with a layer of its own above it, an empty folder, for what is written while it runs."""
    folder.mkdir()
    folder.chmod(0o755)
    return replace(image, layers=(folder, *image.layers))


def in_image(
    image: Image,
    command: Sequence[str],
    mounts: Mapping[str, Path] | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> str:
    """Runs a command in an image and returns what it printed.

    Raises:
      subprocess.CalledProcessError: it failed; what it printed is printed.
      subprocess.TimeoutExpired: it took longer than `seconds`, and was killed.
    """
    line = command_in(image, command, mounts, environment)
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)
    if done.returncode:
        print(done.stdout, done.stderr)
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout
