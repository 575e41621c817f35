"""What belongs to one page: its folder, clip and stills, its jobs, and what they made."""

import json
import re
import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.concurrency import run_in_threadpool

from ldip_jax.errors import InputError
from ldip_jax.studio.job import Job
from ldip_jax.studio.settings import FORMATS, Settings
from ldip_jax.studio.uploads import (
    Kind,
    Upload,
    UploadSpace,
    clean_name,
    clip_frames,
    describe,
    own_path,
    receive,
)

MOST_STILLS = 64
PREVIEWS = 3
# Seconds for which a page may be away, as in a tab that was closed by mistake, before its files are removed.
AWAY = 1800.0
# In place of what the command line advises about damaged frames.
_DAMAGED = "; to go on after it, choose another entry under Damaged frames"


class Session:
    """One page; its methods may be called from one thread only, that of the server.

    Attributes:
        key: the secret by which the page finds it.
        folder: all its files.
        job: the last one.
        jobs: the last job of each kind, as long as what it made belongs to the uploads.
        pictures: the files that the page may ask for, by names of our own.
        result, result_name: the upscaled clip, if there is one, and what it is called when it is saved.
        fetched: whether the result was downloaded.
    """

    def __init__(self, folder: Path, limit: int, turn: threading.Lock, words: Sequence[str] = ()):
        """
        Args:
            folder: a new one is made in it.
            limit: bytes of all uploads together.
            turn: shared by all pages, so that one job works at a time.
            words: more arguments of `ldip upscale`.
        """
        self.key = secrets.token_urlsafe(24)
        self.folder = folder / secrets.token_hex(8)
        self.folder.mkdir(mode=0o700)
        self.clip: Upload | None = None
        self.stills: list[Upload] = []
        self.settings = Settings()
        self.job: Job | None = None
        self.jobs: dict[str, Job] = {}
        self.pictures: dict[str, Path] = {}
        self.result: Path | None = None
        self.result_name = ""
        self.fetched = False
        # The settings and arguments of the last run, as long as it is not complete.
        self._started, self._unfinished = self.settings, list[str]()
        self._before: list[dict[str, Any]] = []
        self._space = UploadSpace(self.folder, limit)
        self._turn, self._words = turn, list(words)
        self._number = 0
        self._last_contact = time.monotonic()

    # Uploads

    async def upload(self, kind: Kind, name: str, size: int, stream: AsyncIterator[bytes]) -> None:
        """Take a clip, which replaces the one before, or another still.

        Args:
            name: what the client calls the file.
            size: its bytes, as the client says; 0: not known.

        Raises:
            InputError: it cannot be used, or too little space is left.
        """
        self._idle()
        name = clean_name(name, kind)
        if kind == "still" and len(self.stills) >= MOST_STILLS:
            raise InputError(f"{name}: a page takes {MOST_STILLS} stills; remove some first")
        self._number += 1
        key = f"{kind}-{self._number}"
        path = own_path(self.folder, key, name, kind)
        self._space.check(name, size)
        size = await receive(stream, path, name, self._space)
        picture = self.folder / f"{key}-small.jpg"
        new = Upload(key, name, path, size, picture, {})
        try:
            about = await run_in_threadpool(describe, path, kind, picture)
            self._idle()
        except InputError as error:
            self._remove(new)
            raise InputError(self.with_user_names(str(error), [new])) from error
        except BaseException:
            self._remove(new)
            raise
        new.about.update(about)
        if kind == "still":
            self.stills.append(new)
        else:
            if self.clip is not None:
                self._remove(self.clip)
            self.clip = new
        self.pictures[key] = picture
        self._changed()

    def remove_still(self, key: str) -> None:
        """Remove a still; does nothing if there is none of this key."""
        self._idle()
        for still in [still for still in self.stills if still.key == key]:
            self.stills.remove(still)
            self._remove(still)
            self._changed()

    def _changed(self) -> None:
        """Forget what was made from other uploads; but a result stays until the next run."""
        self._discard_jobs("matches", "preview", *(["run"] if self.result is None else []))

    def _remove(self, upload: Upload) -> None:
        self._space.used -= upload.size
        self.pictures.pop(upload.key, None)
        upload.path.unlink(missing_ok=True)
        upload.picture.unlink(missing_ok=True)

    def _idle(self) -> None:
        self._last_contact = time.monotonic()
        if self.job is not None and self.job.active:
            raise InputError("a run is at work with these files; wait for it, or stop it first")

    # Jobs

    def start(self, kind: str, settings: Settings) -> None:
        """Begin a job: "matches", "preview" or "run".

        Raises:
            InputError: another one is at work, or it needs something that is not there.
        """
        self._idle()
        if self.clip is None:
            raise InputError("there is no clip yet; drop one first")
        if kind == "matches" and not self.stills:
            raise InputError("there are no stills yet; drop some first")
        if settings.words() != self.settings.words():
            self._discard_jobs("preview")
        self.settings = settings
        words = self._arguments(kind, settings)
        if kind == "run" and self._resumable and words == self._unfinished:
            words = [*words, "--resume"]
        else:
            self._discard_jobs(kind)
        if kind == "run":
            self._started, self._unfinished = settings, [word for word in words if word != "--resume"]
        self._number += 1
        log = self.folder / f"{kind}-{self._number}.jsonl"
        job = Job(
            kind, self._number, [*words, "--log-json", str(log)], log, self._turn, lambda: self._finish(kind)
        )
        self.job = self.jobs[kind] = job
        job.start()

    @property
    def _resumable(self) -> bool:
        """Whether frames of an unfinished run are kept."""
        idle = self.job is None or not self.job.active
        return idle and bool(self._unfinished) and any(self.folder.glob(".run*.ldip"))

    def _arguments(self, kind: str, settings: Settings) -> list[str]:
        assert self.clip is not None
        words = ["upscale", str(self.clip.path)]
        if kind == "matches":
            words += ["--matches", str(self._out(kind))]
        elif kind == "preview":
            words += [str(self._out(kind)), "--preview", str(PREVIEWS)]
        else:
            words += [str(self._out(kind)), *FORMATS[settings.format].words]
        refs = ["--ref", *(str(still.path) for still in self.stills)] if self.stills else []
        return [*words, *settings.words(), "--quiet", *self._words, *refs]

    def _out(self, kind: str) -> Path:
        suffix = FORMATS[self.settings.format].suffix if kind == "run" else ""
        return self.folder / f"{kind}{suffix}"

    def _finish(self, kind: str) -> None:
        """What is left to do when a job has succeeded; called in the job's thread."""
        out = self._out(kind)
        if kind == "preview":
            self._finish_preview(out)
        elif kind == "run":
            assert self.clip is not None
            self._unfinished = []
            self.result = _zipped(out) if out.is_dir() else out
            self.result_name = f"{Path(self.clip.name).stem}-x{self.settings.scale:g}{self.result.suffix}"

    def _finish_preview(self, out: Path) -> None:
        assert self.clip is not None
        after = {int(path.stem): path for path in sorted(out.iterdir())}
        before = clip_frames(self.clip.path, sorted(after))
        for place, image in before.items():
            path = out / f"before-{place}.png"
            Image.fromarray(image).save(path)
            self.pictures |= {f"before-{place}": path, f"after-{place}": after[place]}
        self._before = [{"frame": place} for place in sorted(after)]

    def stop(self) -> None:
        """Stop the job that works or waits."""
        if self.job is not None:
            self.job.stop()

    def _discard_jobs(self, *kinds: str) -> None:
        """Remove what jobs of these kinds made, because it no longer belongs to the uploads or settings."""
        for kind in kinds:
            self.jobs.pop(kind, None)
            for path in [*self.folder.glob(f"{kind}*"), *self.folder.glob(f".{kind}*")]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if "run" in kinds:
            self.result, self.fetched, self._unfinished = None, False, []
        self.pictures = {name: path for name, path in self.pictures.items() if path.exists()}

    # What the page sees

    def with_user_names(self, text: str, more: Sequence[Upload] = ()) -> str:
        """A message with the user's names in place of ours."""
        uploads = [*self.stills, *([self.clip] if self.clip else []), *more]
        for upload in uploads:
            text = text.replace(str(upload.path), upload.name)
        text = text.replace(f"{self.folder}/", "")
        # Advice that only the command line can follow, and a file that the page cannot offer.
        text = re.sub(r" \(--[^)]*\)", "", text)
        text = re.sub(r"; the \d+ frames before it are in .*", _DAMAGED, text)
        text = re.sub(r"--memory|^memory(?= \d)", "Memory limit", text)
        names = {upload.key: upload.name for upload in uploads}
        return re.sub(r"\bstill-\d+\b", lambda found: names.get(found[0], found[0]), text)

    def state(self) -> dict[str, Any]:
        """All that the page shows."""
        self._last_contact = time.monotonic()
        result = None
        if self.result is not None:
            result = {"name": self.result_name, "size": self.result.stat().st_size, "fetched": self.fetched}
        return {
            "clip": None if self.clip is None else _shown(self.clip),
            "stills": [_shown(still) for still in self.stills],
            "jobs": {kind: self._job(job) for kind, job in self.jobs.items()},
            "matches": self._matches(),
            "preview": self._before
            if "preview" in self.jobs and self.jobs["preview"].state == "done"
            else [],
            "result": result,
        }

    def _job(self, job: Job) -> dict[str, Any]:
        job.update()
        events = job.events
        notes = [event["message"] for event in events if event["event"] == "note"]
        return {
            "state": job.state,
            "number": job.number,
            "share": job.share,
            "left": job.left,
            "kept": job.kept,
            "seconds": round(job.seconds, 1),
            "error": self.with_user_names(job.error),
            "notes": [self.with_user_names(note) for note in notes],
            "resumable": asdict(self._started) if job.kind == "run" and self._resumable else None,
        }

    def _matches(self) -> dict[str, Any] | None:
        job = self.jobs.get("matches")
        if job is None:
            return None
        out = self._out("matches")
        rows = [event for event in job.events if event["event"] == "match"]
        names = [row["picture"] for row in rows]
        names += [still["picture"] for row in rows for still in row["stills"].values() if still["picture"]]
        self.pictures |= {name: out / name for name in names}
        advice: list[str] = []
        if job.state == "done":
            advice = json.loads((out / "matches.json").read_text())["advice"]
        return {"rows": rows, "advice": [self.with_user_names(line) for line in advice]}

    # Its end

    @property
    def expired(self) -> bool:
        """Whether its page is gone, and nothing that took long is lost with it."""
        waiting = self.result is not None and not self.fetched
        busy = self.job is not None and self.job.active
        return time.monotonic() - self._last_contact > AWAY and not busy and not waiting

    def close(self) -> None:
        """Stop its job and remove all its files."""
        if self.job is not None:
            self.job.stop()
            self.job.join()
        shutil.rmtree(self.folder, ignore_errors=True)


def _shown(upload: Upload) -> dict[str, Any]:
    return {"key": upload.key, "name": upload.name, "size": upload.size, **upload.about}


def _zipped(folder: Path) -> Path:
    """A ZIP file of a folder's images, which are compressed already."""
    path = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for image in sorted(folder.iterdir()):
            archive.write(image, image.name)
    shutil.rmtree(folder)
    return path
