package bootset

import "strings"

// MountsRoot says whether a kernel of a configuration (/boot/config-RELEASE) needs no
// initramfs to mount its root over NFS on a model of Pi ("3b", "4b", ...): it asks for
// an address, knows NFS, and has the driver of the model's network card and of what that
// hangs on, all built in. Of a model that is not known it says no.
func MountsRoot(config, model string) bool {
	builtIn := map[string]bool{}
	for line := range strings.Lines(config) {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), "=y"); ok {
			builtIn[name] = true
		}
	}
	// Each is there when one of its names is.
	want := [][]string{{"CONFIG_ROOT_NFS"}, {"CONFIG_NFS_V3"}, {"CONFIG_IP_PNP_DHCP"}, {"CONFIG_DEVTMPFS_MOUNT"}}
	switch model {
	case "3b":
		want = append(want, []string{"CONFIG_USB_NET_SMSC95XX"}, []string{"CONFIG_USB_DWCOTG", "CONFIG_USB_DWC2"})
	case "3b+":
		want = append(want, []string{"CONFIG_USB_LAN78XX"}, []string{"CONFIG_USB_DWCOTG", "CONFIG_USB_DWC2"})
	case "4b", "400", "cm4":
		want = append(want, []string{"CONFIG_BCMGENET"})
	case "5", "500", "cm5":
		want = append(want, []string{"CONFIG_MACB"}, []string{"CONFIG_PCIE_BRCMSTB"}, []string{"CONFIG_MFD_RP1", "CONFIG_MISC_RP1"})
	default:
		return false
	}
	for _, names := range want {
		has := false
		for _, n := range names {
			has = has || builtIn[n]
		}
		if !has {
			return false
		}
	}
	return true
}
