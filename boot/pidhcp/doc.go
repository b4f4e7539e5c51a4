// Package pidhcp is the DHCP of Raspberry Pi boot firmware: what it sends, what it wants to hear, and what a server did about it.
package pidhcp
