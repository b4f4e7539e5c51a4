// Package sighting is what boards say of themselves when they ask for a boot server, and
// the bounded list of those that nobody knows.
package sighting
