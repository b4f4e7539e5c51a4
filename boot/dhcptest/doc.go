// Package dhcptest has what tests of DHCP share: reference packets and a clock.
package dhcptest
