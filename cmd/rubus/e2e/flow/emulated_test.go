package flow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rubus/cmd/rubus/e2e/harness"
)

// bootReport is what "rubus simulate --json" prints, as far as tests read it.
type bootReport struct {
	OK       bool
	Verdict  string
	Serial   string
	Address  string
	Server   string
	Cmdline  string
	Kernel   fetchedFile
	Emulator struct {
		Login bool
		Exec  []struct {
			Command string
			Status  int
			Output  string
		}
	}
}

type fetchedFile struct{ Name, SHA256 string }

// simulate runs "rubus simulate" with commands for the guest and gives what it
// reported and what the commands printed. At the login prompt it calls over.
func (s *site) simulate(over func(), commands []string, args ...string) (bootReport, []string) {
	s.t.Helper()
	r, printed, err := s.emulate("console.log", over, commands, args...)
	must(s.t, err)
	return r, printed
}

// emulate is simulate with a console's log of its own, for several boards at once.
func (s *site) emulate(log string, over func(), commands []string, args ...string) (r bootReport, printed []string, err error) {
	console := filepath.Join(s.dir, log)
	args = append([]string{"simulate", "--json", "--qemu", "--console-log", console}, args...)
	for _, c := range commands {
		args = append(args, "--exec", c)
	}
	cmd := s.host.command(s.t.Context(), shared.Plain, args...)
	boots := 1
	if slices.Contains(args, "--reboot") {
		boots = 2
	}
	defer atLogin(console, boots, over)()
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env(), &stdout, &stderr
	runErr := cmd.Run()
	text, _ := os.ReadFile(console)
	err = errors.Join(runErr, json.Unmarshal(stdout.Bytes(), &r))
	if err != nil || !r.OK || !r.Emulator.Login {
		return r, nil, fmt.Errorf("rubus simulate: %w, verdict %q\n%s\nthe console's last lines:\n%s",
			err, r.Verdict, stderr.String(), harness.LastLines(string(text), 60))
	}
	if !strings.Contains(string(text), "login:") {
		s.t.Errorf("the console's log has no login prompt:\n%s", harness.LastLines(string(text), 20))
	}
	for _, bad := range []string{"Oops", "Kernel panic", "Stale file handle", "not responding"} {
		if strings.Contains(string(text), bad) {
			s.t.Errorf("the console's log says %q:\n%s", bad, text)
		}
	}
	for _, e := range r.Emulator.Exec {
		printed = append(printed, strings.TrimSpace(strings.ReplaceAll(e.Output, "\r", "")))
	}
	return r, printed, nil
}

// booting is held by the emulated board that is on its way to its login prompt:
// two at once take more than twice as long.
var booting = make(chan struct{}, 1)

// waitTurn waits until no other emulated board boots. The turn is over when over
// is called, or at the end of the test.
func waitTurn(t *testing.T) (over func()) {
	booting <- struct{}{}
	over = sync.OnceFunc(func() { <-booting })
	t.Cleanup(over)
	return over
}

// atLogin calls f when a console's log says "login:" after so many kernels began, unless stopped.
func atLogin(console string, boots int, f func()) (stop func()) {
	stopped := make(chan struct{})
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-stopped:
				return
			}
			text, _ := os.ReadFile(console)
			if all := strings.Split(string(text), kernelBegins); len(all) > boots && strings.Contains(all[boots], "login:") {
				f()
				return
			}
		}
	}()
	return func() { close(stopped) }
}

// kernelBegins is the first line of a kernel on the console.
const kernelBegins = "Booting Linux on physical CPU"

const (
	isRunning = `systemctl is-system-running --wait || { systemctl --failed --no-legend; false; }`
	itsSerial = `tr -d '\0' </proc/device-tree/serial-number`
	itsRoot   = `findmnt -no FSTYPE,SOURCE / || grep ' / nfs' /proc/mounts`
	// The unit has written the id of this very boot.
	itsReport  = `grep -o "rubus.boot=$(cat /var/lib/rubus/booted)" /proc/cmdline | cut -d= -f1`
	itsAddress = `ip -4 -o addr show dev eth0 | awk '{ print $4 }'`
)

// The site's DHCP server gives leases of 120 s, the shortest that dnsmasq has, and the
// system gets another address than firmware got. When one is over that was not renewed,
// with hardly a call meanwhile, the board is alive on its address; TestIdle is silent for
// longer. Meanwhile another board of the same image boots, and is another host.
func TestShortLeases(t *testing.T) {
	t.Parallel()
	const serial = "b8123456"
	over := waitTurn(t)
	s := newSite(t)
	s.useGolden()
	s.router(twoPools)
	s.addSSH()
	ids := s.identities(serial)
	s.serveWith(shared.Plain)
	other := ids.otherBoard(over)
	r, out := s.simulate(other.mayBoot, []string{
		isRunning, itsSerial, itsAddress,
		`sleep 130`,
		itsAddress,
		`echo alive >/root/alive && sync && cat /root/alive`,
		`dmesg | grep -iE 'not responding|stale' || echo clean`,
		itsIdentity,
	}, "--interface", bridge, "--serial", serial, "--timeout", "18m")
	// Read before the other board is awaited: the lease of one that is down runs out.
	leases, err := os.ReadFile(s.leases())
	must(t, err)
	ids.differ(out[7], other)

	if out[0] != "running" || out[1] != "00000000"+serial {
		t.Errorf("the system says %q, its serial is %q", out[0], out[1])
	}
	firmware, system := parseAddr(t, r.Address), parseAddr(t, out[2])
	if firmware == system {
		t.Errorf("firmware and system both have the address %s", system)
	}
	if out[4] != out[2] {
		t.Errorf("the address was %s and is %s", out[2], out[4])
	}
	if out[5] != "alive" || out[6] != "clean" {
		t.Errorf("after a lease the board says %q and its kernel %q", out[5], out[6])
	}
	if got := s.record(serial).Address; got != system {
		t.Errorf("device.json has the address %s, not %s", got, system)
	}
	if !strings.Contains(string(leases), system.String()) {
		t.Errorf("the DHCP server has no lease of %s any more:\n%s", system, leases)
	}
	// Its unit reported the boot, and all of it is on record.
	if l := s.bootLog(serial); l.Verdict.Rule != "good" || len(l.Boots) != 1 {
		t.Errorf("the verdict on the boot is %+v, of %d boots", l.Verdict, len(l.Boots))
	}
	// It was powered off: that is seen, and its writes are kept.
	s.endedBy("console.log", "reboot: Power down")
	s.waitPhase(4*time.Minute, serial, "down")
	text, err := os.ReadFile(filepath.Join(s.root(serial, 1), "root/alive"))
	if err != nil || string(text) != "alive\n" {
		t.Errorf("on the server the board's file holds %q: %v", text, err)
	}
}

func parseAddr(t *testing.T, s string) netip.Addr {
	t.Helper()
	p, err := netip.ParsePrefix(s)
	if err != nil {
		t.Fatal(fmt.Errorf("an address of a board: %w", err))
	}
	return p.Addr()
}
