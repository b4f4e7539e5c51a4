// Package dhcplink hears and sends DHCP messages on the Ethernet links of this host, beside any other program.
package dhcplink
