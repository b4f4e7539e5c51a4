package doctor

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// Rules are the lines that open a firewall for exactly the ports in use.
type Rules struct {
	Nftables, UFW, Firewalld []string
}

// FirewallRules makes the rules for ports on interfaces; no interface: all.
func FirewallRules(wanted []Port, ifaces []string) Rules {
	byNet := map[string][]string{}
	for _, p := range wanted {
		n := strconv.Itoa(int(p.Port))
		if !slices.Contains(byNet[p.Network], n) {
			byNet[p.Network] = append(byNet[p.Network], n)
		}
	}
	if len(ifaces) == 0 {
		ifaces = []string{""}
	}
	var r Rules
	for _, i := range ifaces {
		nft, ufw, zone := "", "", ""
		if i != "" {
			nft, ufw, zone = fmt.Sprintf("iifname %q ", i), "in on "+i+" ", "# zone of "+i+": firewall-cmd --get-zone-of-interface="+i
			r.Firewalld = append(r.Firewalld, zone)
		}
		for _, network := range []string{"udp", "tcp"} {
			list := byNet[network]
			if len(list) == 0 {
				continue
			}
			r.Nftables = append(r.Nftables, fmt.Sprintf("nft add rule inet filter input %s%s dport { %s } accept", nft, network, strings.Join(list, ", ")))
			r.UFW = append(r.UFW, fmt.Sprintf("ufw allow %sto any port %s proto %s", ufw, strings.Join(list, ","), network))
			for _, n := range list {
				r.Firewalld = append(r.Firewalld, fmt.Sprintf("firewall-cmd --permanent --add-port=%s/%s", n, network))
			}
		}
	}
	r.Firewalld = append(r.Firewalld, "firewall-cmd --reload")
	return r
}

// Firewall says whether a firewall is in the way, as far as its own tools tell.
func Firewall(ctx context.Context, rules Rules) Finding {
	f := Finding{
		Check: "firewall", Level: Warning,
		Why: "it may keep boards' requests out; TFTP answers from ports of its own, which \"established\" lets pass",
	}
	say := func(name string, args ...string) string {
		out, err := exec.CommandContext(ctx, name, args...).Output()
		if err != nil {
			return ""
		}
		return string(out)
	}
	switch {
	case strings.TrimSpace(say("firewall-cmd", "--state")) == "running":
		f.What, f.Do = "firewalld runs", strings.Join(rules.Firewalld, "\n")
	case strings.Contains(say("ufw", "status"), "Status: active"):
		f.What, f.Do = "ufw is active", strings.Join(rules.UFW, "\n")
	case drops(say("nft", "list", "ruleset")):
		f.What, f.Do = "nftables drops what comes in", strings.Join(rules.Nftables, "\n")
	default:
		return Finding{Check: "firewall", Level: OK, What: "no firewall of this machine is in the way"}
	}
	return f
}

// drops says whether a ruleset has an input chain that drops what no rule takes.
func drops(ruleset string) bool {
	for line := range strings.Lines(ruleset) {
		if strings.Contains(line, "hook input") && strings.Contains(line, "policy drop") {
			return true
		}
	}
	return false
}
