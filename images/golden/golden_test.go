package golden

import (
	"testing"

	"rubus/images/treediff"
)

func TestLeftOut(t *testing.T) {
	for p, want := range map[string]string{
		"etc/machine-id": Identity, "etc/ssh/ssh_host_ed25519_key.pub": Identity, "etc/ssh/sshd_config": "",
		"root/.ssh/id_ed25519": Secret, "home/pi/.ssh/id_rsa": Secret, "home/pi/.ssh/authorized_keys": "",
		"home/pi/.bash_history": Litter, "var/log": "", "var/log/apt/history.log": Litter, "var/logs": "",
		"home/pi/.gnupg/private-keys-v1.d/x.key": Secret, "usr/bin/htop": "", "tmp/x": Litter, "": "",
	} {
		if got := LeftOut(treediff.Change{Path: p, Kind: treediff.Added}, []string{"/var/log/kept"}); got != want {
			t.Errorf("%q: %q, want %q", p, got, want)
		}
	}
	if got := LeftOut(treediff.Change{Path: "var/log/kept/x", Kind: treediff.Added}, []string{"/var/log/kept/"}); got != "" {
		t.Errorf("asked for, and left out: %q", got)
	}
	if got := LeftOut(treediff.Change{Path: "etc/machine-id", Kind: treediff.Removed}, nil); got != "" {
		t.Errorf("a removal is left out: %q", got)
	}
}
