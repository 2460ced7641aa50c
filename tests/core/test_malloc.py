"""Large blocks cost no page fault for each of their pages, and old objects no collection."""

import subprocess
import sys
import textwrap

import pytest

FAULTS = textwrap.dedent("""
    import resource
    from gateway.core.malloc import keep_pages

    kept = keep_pages()
    def move():
        pieces = [bytes(262144) for _ in range(8)]
    move()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        move()
    print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
""")


def faults(**environ):
    """Return whether the allocator took the word, and the page faults of moving 200 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, env=environ
    )
    kept, count = done.stdout.split()
    return bool(int(kept)), int(count)


def test_pages_are_used_again():
    """What one piece has given back the next one uses, without the system's help."""
    kept, count = faults()
    if not kept:
        pytest.skip("the C library is not glibc")
    assert count < 1000  # of 50,000 pages


def test_own_settings_stand():
    """Who has set glibc's variables keeps what they say."""
    assert not faults(MALLOC_ARENA_MAX="1")[0]
    assert not faults(GLIBC_TUNABLES="glibc.malloc.arena_max=1")[0]


def test_what_lives_is_not_looked_at_again():
    """What was loaded before is no business of a collection, what comes after it is."""
    code = textwrap.dedent("""
        import gc
        from gateway.core.malloc import keep_objects

        before = len(gc.get_objects())
        keep_objects()
        ring = []
        ring.append(ring)
        del ring
        print(before > 10_000, len(gc.get_objects()) < 1000, gc.collect())
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True True 1\n"
