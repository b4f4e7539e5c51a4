package bootset

import (
	"strings"
	"testing"
)

func TestMountsRoot(t *testing.T) {
	const all = "CONFIG_ROOT_NFS=y\nCONFIG_NFS_V3=y\nCONFIG_IP_PNP_DHCP=y\nCONFIG_DEVTMPFS_MOUNT=y\n" +
		"CONFIG_BCMGENET=y\nCONFIG_USB_LAN78XX=y\nCONFIG_USB_DWCOTG=y\nCONFIG_USB_NET_SMSC95XX=m\n"
	for _, c := range []struct {
		name, config, model string
		want                bool
	}{
		{"all of a 4B", all, "4b", true},
		{"all of a 3B+", all, "3b+", true},
		{"the card of a 3B is a module", all, "3b", false},
		{"a 5 lacks its card", all, "5", false},
		{"a model that is not known", all, "9", false},
		{"NFS is a module", strings.Replace(all, "CONFIG_ROOT_NFS=y", "# CONFIG_ROOT_NFS is not set", 1), "4b", false},
		{"no address", strings.Replace(all, "CONFIG_IP_PNP_DHCP=y", "", 1), "4b", false},
		{"a name that only begins so", strings.Replace(all, "CONFIG_BCMGENET=y", "CONFIG_BCMGENET_X=y", 1), "4b", false},
		{"no configuration", "", "4b", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := MountsRoot(c.config, c.model); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
