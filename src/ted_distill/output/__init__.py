"""Files of stages and runs: whole or not at all, recognised when damaged, and never those of someone else."""

from .checkpoints import (
    STATE_NAME,
    check_checkpoint,
    checkpoint_folder,
    last_checkpoint,
    processes_of,
    remove_checkpoints,
    resumable_checkpoint,
    rotate_checkpoints,
    seal_checkpoint,
    unsealed_checkpoints,
)
from .disk import Need, check_space, explain_full_disk
from .files import (
    PARTIAL,
    atomic_files,
    check_writable,
    read_json,
    remove_leftovers,
    write_json,
)
from .locks import locked, locked_here, refuse_busy
from .manifests import (
    MANIFEST_NAME,
    DamagedFileError,
    check_inputs,
    damaged_files,
    published_damage,
    read_if_sound,
    read_manifest,
    read_sealed,
    write_sealed,
)
from .origins import command, program, short_name, versions
from .processes import gathered, on_main
from .publishing import (
    finish_publication,
    foreign_names,
    has_scaffold,
    is_half_published,
    publication,
    refuse_own_folder,
)

SETTINGS_NAME = "settings.json"
RESULTS_NAME = "all_results.json"
