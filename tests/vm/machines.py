"""The machines that tests run in."""

from vm.boot import Machine

MACHINES = {
    machine.name: machine
    for machine in (
        Machine("4-level"),
        Machine("5-level", five_levels=True),
        Machine("lockdown", append="lockdown=confidentiality"),
        Machine("untouched"),  # for what the pages show: other tests change settings, and plug memory in
        Machine("6.12", package="linux-image-6.12-cloud-amd64"),
    )
}
