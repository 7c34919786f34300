"""The machines that tests run in."""

from vm.boot import Machine

MACHINES = {
    machine.name: machine
    for machine in (
        Machine("4-level"),
        Machine("5-level", five_levels=True),
        Machine("lockdown", append="lockdown=confidentiality"),
        Machine("6.12", package="linux-image-6.12-cloud-amd64"),
    )
}
