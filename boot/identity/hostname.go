package identity

import (
	"regexp"
	"slices"
	"strings"
)

// hostnameForm is what systemd takes for a host name.
var hostnameForm = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)

// IsHostname says whether a system can have this host name; maxHostname is Linux'.
func IsHostname(s string) bool { return len(s) <= maxHostname && hostnameForm.MatchString(s) }

const maxHostname = 64

// madeName is the form of host names that are made of a serial.
var madeName = regexp.MustCompile(`^rpi-[0-9a-f]{8}$`)

func defaultName(serial string) string { return "rpi-" + serial }

// hostname is what devices.yaml says, or else what the board has called itself, if no
// other board is called so, or else made of its serial.
func (p *planner) hostname() string {
	p.own = p.ownName()
	made := defaultName(p.facts.Serial)
	switch {
	case p.Wish.Hostname != "":
		return p.Wish.Hostname
	case p.own == "":
		return made
	}
	if p.Claim != nil {
		if other := p.Claim(p.own); other != "" {
			p.problemf("host name %s, which the board took itself, is that of board %s: it is %s until devices.yaml says otherwise", p.own, other, made)
			return made
		}
	}
	return p.own
}

// ownName is the host name that the board wrote itself last; "": none. What it was given
// is none of its own, be it only that another has that name now. It stays on record:
// what the board wrote may be gone.
func (p *planner) ownName() string {
	data, _, err := p.upper.Read(hostnameFile, 4096)
	if err != nil {
		return p.before.OwnName
	}
	name := strings.TrimSpace(string(data))
	if !IsHostname(name) || madeName.MatchString(name) {
		return p.before.OwnName
	}
	if !p.before.KnowsName && name == p.Wish.Hostname {
		return p.before.OwnName
	}
	i := slices.IndexFunc(p.before.Files, func(f GivenFile) bool { return f.Path == hostnameFile })
	if i >= 0 && slices.Contains(p.before.Files[i].Digests, digest(data)) && p.before.KnowsName {
		return p.before.OwnName
	}
	return name
}

const hostnameFile = "/etc/hostname"
