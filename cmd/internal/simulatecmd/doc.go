// Package simulatecmd is "rubus simulate": boards that are played or emulated.
package simulatecmd
