package device

// DoctorMAC is that of the board which "rubus doctor" makes up to ask the network; no Pi
// has it.
func DoctorMAC() MAC { return MAC{2, 'r', 'u', 'b', 'u', 's'} }
