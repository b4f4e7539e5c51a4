// Package fakepi behaves like Raspberry Pi firmware on the wire, model by model.
package fakepi
