// Package nic is a simulated board's network card, with as much IPv4 as boot firmware has.
package nic
