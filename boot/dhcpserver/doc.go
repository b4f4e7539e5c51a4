// Package dhcpserver gives out addresses on a network of boards that has no other DHCP server.
package dhcpserver
