package pidhcp

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
)

// Snippet is what another DHCP server has to be told.
type Snippet struct {
	// Name is the server's, Text what goes into its configuration.
	Name, Text string
}

// Elsewhere gives the lines that make another DHCP server send boards to server
// for their files, for a site where this package must not answer. Only firmware
// of a Pi is told: it has this vendor class, though other network boot programs
// of old PCs have, too. All generations take option 66, when it is an address;
// option 43 has the text that Pis before the 4 look for.
func Elsewhere(server netip.Addr) []Snippet {
	const class = "PXEClient:Arch:00000:UNDI:002001"
	menu := vendorOption(BootText + romPadding)
	octets := make([]string, len(menu))
	for i, b := range menu {
		octets[i] = fmt.Sprintf("%02x", b)
	}
	colons := strings.Join(octets, ":")
	return []Snippet{
		{"dnsmasq", fmt.Sprintf(`# /etc/dnsmasq.d/rubus.conf
dhcp-vendorclass=set:raspberrypi,%s
dhcp-option-force=tag:raspberrypi,66,%s
dhcp-option-force=tag:raspberrypi,43,%s
`, class, server, colons)},
		{"kea", fmt.Sprintf(`// "Dhcp4" of /etc/kea/kea-dhcp4.conf
"client-classes": [{
    "name": "raspberrypi",
    "test": "option[60].text == '%s'",
    "option-data": [
        {"name": "tftp-server-name", "data": "%s", "always-send": true},
        {"code": 43, "name": "vendor-encapsulated-options", "csv-format": false,
         "data": "%s", "always-send": true}
    ]
}]
`, class, server, hex.EncodeToString(menu))},
		{"isc dhcpd", fmt.Sprintf(`# /etc/dhcp/dhcpd.conf
class "raspberrypi" {
    match if option vendor-class-identifier = "%s";
    option tftp-server-name "%s";
    option vendor-encapsulated-options %s;
}
`, class, server, colons)},
	}
}
