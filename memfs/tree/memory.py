"""Files that are memory: segments, regions, notes, the whole address space; and `maps`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memfs.facts import regions, segments
from memfs.facts.regions import Region
from memfs.image import Image, Mapping, Note, Segment, Space, State
from memfs.tree import render
from memfs.tree.node import SIZE_AT_MOST, AddressSpace, Memory, Node
from memfs.tree.rows import Context

_DEVICE = "00:00 0"  # no image that memfs reads says which; the kernel prints this for anonymous memory


def attributes(address: int, size: int, permissions: str | None, **known: int | str | None) -> dict[str, str]:
    """The extended attributes of memory, numbers in hex; what is not known is left out."""
    out = {"address": hex(address), "size": hex(size), "permissions": permissions}
    for name, value in known.items():
        out[name] = hex(value) if isinstance(value, int) else value
    return {f"user.memfs.{name}": value for name, value in out.items() if value is not None}


def segment_file(context: Context, segment: Segment) -> Node:
    """The bytes of one program header, wherever others overlap it."""
    space = context.readable(context.image.segment_space(segment))
    size = segments.size(segment)
    load = segments.is_load(segment)

    def xattrs() -> dict[str, str]:
        return attributes(
            segment.address,
            size,
            segments.flags_text(segment.flags, "rwx", "-"),
            physical=segments.physical(context.image, segment),
            offset=segment.offset if context.image.live is None else None,
            origin="image",
        )

    return Memory(space, segment.address if load else 0, size, xattrs)


def note_file(context: Context, note: Note) -> Node:
    """A note's descriptor."""
    segment = Segment(0, 0, 0, note.offset, 0, 0, note.size, note.size, 0)
    space = context.image.segment_space(segment)
    return Memory(space, 0, note.size, lambda: {"user.memfs.offset": hex(note.offset)})


def region_file(context: Context, region: Region) -> Node:
    """The bytes of a region."""
    space = context.image.pinned(region.start, region.end)
    return Memory(context.readable(space), region.start, region.size, region_xattrs(context.image, region))


def region_xattrs(
    image: Image, region: Region, start: int | None = None, size: int | None = None
) -> Callable[[], dict[str, str]]:
    """The attributes of a region, or of a part of it."""

    def xattrs() -> dict[str, str]:
        begin = region.start if start is None else start
        length = region.size if size is None else size
        access = region.permissions[:3] if region.permissions else None
        return attributes(
            begin, length, access, offset=source_offset(image.space, begin, length), path=region.path, origin="image"
        )

    return xattrs


def source_offset(space: Space, start: int, size: int) -> int | None:
    """Where the bytes lie in the source, if the first of them are stored there."""
    run = next(iter(space.runs(start, start + size)), None) if size else None
    return run.origin if run and run.state == State.DATA else None


def whole(context: Context) -> Node:
    """The address space as one file."""
    size = min(1 << context.image.target.bits, SIZE_AT_MOST)
    space = context.readable(context.image.space)
    return AddressSpace(space, 0, size, lambda: attributes(0, size, None))


def by_address(context: Context) -> Node:
    """at/: imported when it is first looked into."""
    from memfs.tree.at import AtDir

    return AtDir(context)


def region_records(image: Image) -> list[dict[str, Any]]:
    """regions.json."""
    out = []
    for region in regions.regions(image):
        tally = regions.tally(image, region)
        out.append(
            {
                "name": region.name,
                "address": hex(region.start),
                "size": region.size,
                "permissions": region.permissions,
                "offset": hex(region.offset) if region.offset is not None else None,
                "path": region.path,
                "deleted": region.deleted,
                "kind": region.kind,
                "sure": region.sure,
                "stacks": list(region.stacks),
                "data": tally.data if tally else None,
                "zero": tally.zero if tally else None,
                "absent": tally.absent if tally else None,
            }
        )
    return out


def maps(image: Image) -> bytes:
    """The mappings as fs/proc/task_mmu.c (show_map_vma) prints them. A core does not say what is shared: p; of a
    file that it names without any memory it says no permissions at all: ----. Of a live process it is the kernel's."""
    own = image.process.text("maps")
    if own is not None:
        return own
    width = 73 if image.target.bits == 64 else 49
    lines = []
    for mapping in regions.mappings(image):
        head = (
            f"{mapping.start:08x}-{mapping.end:08x} {mapping.permissions or '----'} {mapping.offset or 0:08x} {_DEVICE}"
        )
        name = _maps_name(mapping)
        lines.append((f"{head:<{width}}{name}" if name else head + " ") + "\n")
    return render.encode("".join(lines))


def _maps_name(mapping: Mapping) -> str:
    return mapping.path.replace("\n", "\\012") if mapping.path is not None else mapping.label or ""
