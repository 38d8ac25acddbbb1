"""What all system buildpacks share: their log, their dependencies, their files under deps/<index>.

Runs on the stack's own Python with `-I`, so that nothing in an app's environment changes how a buildpack works.
"""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
VERSION = (HERE / "VERSION").read_text().strip()
INDENT = " " * 7


def say(text=""):
    """Details, below a step."""
    for line in str(text).splitlines() or [""]:
        print(INDENT + line, flush=True)


def step(text):
    print(f"-----> {text}", flush=True)


def warn(text):
    for number, line in enumerate(str(text).splitlines()):
        print(INDENT + ("\033[31;1m**WARNING**\033[0m " if number == 0 else "") + line, flush=True)


def protip(text):
    print(f"{INDENT}\033[34;1mPRO TIP:\033[0m {text}", flush=True)


def fail(text, status=1):
    for number, line in enumerate(str(text).splitlines()):
        print(INDENT + ("\033[31;1m**ERROR**\033[0m " if number == 0 else "") + line, file=sys.stderr, flush=True)
    sys.exit(status)


def enabled(value):
    """True for `enabled` and `true`, as users write them in files."""
    return value is True or str(value).strip().lower() in ("enabled", "true")


def read_json(path):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{Path(path).name} cannot be read: {error}")
    except json.JSONDecodeError as error:
        fail(f"{Path(path).name} is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}")


class Staging:
    """The arguments of supply and finalize, and the environment of what they run."""

    def __init__(self, language):
        self.language = language
        if len(sys.argv) < 5:
            sys.exit(f"usage: {sys.argv[0]} BUILD_DIR CACHE_DIR DEPS_DIR INDEX [PROFILE_DIR]")
        self.build, self.cache, self.deps = (Path(arg).resolve() for arg in sys.argv[1:4])
        self.index = sys.argv[4]
        self.dep = self.deps / self.index
        self.dep.mkdir(parents=True, exist_ok=True)
        self.cache.mkdir(parents=True, exist_ok=True)
        self.env = dict(os.environ)
        self._use_earlier_buildpacks()

    def _use_earlier_buildpacks(self):
        folders = [p for p in sorted(self.deps.iterdir(), reverse=True) if p.is_dir()]
        for name, sub in [("PATH", "bin"), ("LD_LIBRARY_PATH", "lib"), ("LIBRARY_PATH", "lib"), ("CPATH", "include"), ("PKG_CONFIG_PATH", "pkgconfig")]:
            for folder in reversed(folders):
                # An own folder named lib may hold a language's modules rather than libraries.
                if (folder / sub).is_dir() and (folder != self.dep or sub == "bin"):
                    self.prepend(name, folder / sub)
        for folder in folders:
            env = folder / "env"
            if env.is_dir():
                for file in sorted(env.iterdir()):
                    self.env[file.name] = file.read_text()

    def title(self):
        step(f"{self.language.capitalize()} Buildpack version {VERSION}")

    def prepend(self, name, folder):
        parts = [p for p in self.env.get(name, "").split(":") if p and p != str(folder)]
        self.env[name] = ":".join([str(folder), *parts])

    def default(self, name, value):
        self.env.setdefault(name, value)

    def describe(self, **config):
        """Name and version, for `cf app`."""
        lines = [f"name: {json.dumps(self.language)}", f"version: {json.dumps(VERSION)}", "config: " + json.dumps(config)]
        (self.dep / "config.yml").write_text("\n".join(lines) + "\n")

    def supply_env(self, name, value):
        """For this staging and for later buildpacks."""
        self.env[name] = value
        folder = self.dep / "env"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(value)

    def profile(self, name, text):
        """A script that runs before the app starts."""
        folder = self.dep / "profile.d"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    def link(self, target, name=None):
        """Puts a program on the path, as a relative link, so that the droplet can lie anywhere."""
        folder = self.dep / "bin"
        folder.mkdir(exist_ok=True)
        path = folder / (name or Path(target).name)
        if path.is_symlink() or path.exists():
            path.unlink()
        path.symlink_to(os.path.relpath(target, folder))

    def run(self, command, cwd=None, env=None, quiet=False, indent=True):
        """Runs a command, shows what it prints as it comes, and returns (status, text)."""
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd or self.build,
            env=env or self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        text = []
        for raw in process.stdout:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            text.append(line)
            if not quiet:
                print((INDENT if indent else "") + line, flush=True)
        status = process.wait()
        return status, "\n".join(text)

    def must(self, command, what, **options):
        try:
            status, text = self.run(command, **options)
        except FileNotFoundError:
            fail(f"{what}: the program `{command[0]}` is not in this stack")
        if status != 0:
            if options.get("quiet"):
                say("\n".join(text.splitlines()[-20:]))
            ended = f"signal {-status} (out of memory?)" if status < 0 else f"exit status {status}"
            fail(f"{what}: {Path(str(command[0])).name} ended with {ended}")
        return text

    # Dependencies: carried in the buildpack, kept in the app's cache, or fetched with the ecosystem's own client.

    def carried(self, file):
        path = HERE / "dependencies" / file
        return path if path.exists() else None

    def dependency(self, name, version, file, fetch, sha256=None):
        """The archive `file`, from the app's cache or by `fetch(folder)`, which puts it there."""
        key = hashlib.sha256(f"{name}-{version}-{file}".encode()).hexdigest()
        folder = self.cache / "dependencies" / key
        path = folder / file
        if path.is_file() and (sha256 is None or digest(path) == sha256):
            say(f"Copy [{file}]")
        else:
            shutil.rmtree(folder, ignore_errors=True)
            part = folder.with_name(key + ".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            say(f"Download [{file}]")
            fetch(part)
            found = part / file
            if not found.is_file():
                fail(f"{name} {version} was fetched, but {file} is not what arrived")
            if sha256 and digest(found) != sha256:
                actual = digest(found)
                shutil.rmtree(part)
                fail(f"dependency sha256 mismatch: expected sha256 {sha256}, actual sha256 {actual}")
            part.rename(folder)
        self._used = getattr(self, "_used", set()) | {key}
        return path

    def forget_unused(self):
        """Dependencies of earlier stagings that this one did not use."""
        folder = self.cache / "dependencies"
        if folder.is_dir():
            for path in folder.iterdir():
                if path.name not in getattr(self, "_used", set()):
                    shutil.rmtree(path, ignore_errors=True)

    def note_version(self):
        file = self.cache / "BUILDPACK_METADATA"
        try:
            before = json.loads(file.read_text())
        except (OSError, json.JSONDecodeError):
            before = {}
        if before.get("version") not in (None, VERSION):
            say(f"buildpack version changed from {before['version']} to {VERSION}")
        file.write_text(json.dumps({"language": self.language, "version": VERSION}))


def digest(path):
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            sha.update(block)
    return sha.hexdigest()


def untar(archive, to, strip=1, keep=lambda name: True):
    """Unpacks a trusted tar (its digest was checked), without its first folders."""
    with tarfile.open(archive) as tar:
        members = []
        for member in tar:
            parts = Path(member.name).parts[strip:]
            if parts and ".." not in parts and keep("/".join(parts)) and (member.isfile() or member.isdir() or member.issym()):
                member.name = "/".join(parts)
                member.mode = 0o755 if member.isdir() else (member.mode | 0o600) & 0o755
                members.append(member)
        tar.extractall(to, members)


def unzip(archive, to, prefix="", keep=lambda name: True):
    """Unpacks a trusted zip (its digest was checked) with permission bits and times, without `prefix`."""
    import time

    with zipfile.ZipFile(archive) as zipped:
        for info in zipped.infolist():
            name = info.filename[len(prefix):] if info.filename.startswith(prefix) else ""
            if not name or info.is_dir() or ".." in Path(name).parts or not keep(name):
                continue
            path = Path(to) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipped.open(info) as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            mode = (info.external_attr >> 16) & 0o777
            path.chmod((mode or 0o644) | stat.S_IRUSR | stat.S_IWUSR)
            seconds = time.mktime((*info.date_time, 0, 0, -1))
            os.utime(path, (seconds, seconds))


def copy_tree(source, to):
    shutil.copytree(source, to, symlinks=True, dirs_exist_ok=True)
