package module

// CheckStructure is Check for modules that are no guests.
func CheckStructure(wasm []byte, caps Caps, allowed func(module, name string) bool) error {
	_, err := checkStructure(wasm, caps, allowed)
	return err
}
