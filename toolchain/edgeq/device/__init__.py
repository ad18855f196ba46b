"""Ways to a device: this machine, a board over SSH, an emulated board."""
