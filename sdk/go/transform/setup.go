package transform

import (
	"errors"
	"strconv"

	"github.com/millstream-io/millstream/sdk/go/transform/internal/flat"
)

// Setup is what a SetupFunc works with: the deployment's config values, assets
// and outputs.
type Setup struct {
	environment
}

// ConfigOr returns a config value, or fallback if the deployment does not set it.
func (s *Setup) ConfigOr(name, fallback string) string {
	if value, ok := s.LookupConfig(name); ok {
		return value
	}
	return fallback
}

// ConfigInt returns a config value as an integer, or fallback if the deployment
// does not set it. Its error is fit to be returned by a SetupFunc.
func (s *Setup) ConfigInt(name string, fallback int) (int, error) {
	value, ok := s.LookupConfig(name)
	if !ok {
		return fallback, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return 0, errors.New("config " + name + "=" + value + ": must be an integer")
	}
	return n, nil
}

// ConfigBool returns a config value as a truth value (true, false, 1, 0), or
// fallback if the deployment does not set it. Its error is fit to be returned
// by a SetupFunc.
func (s *Setup) ConfigBool(name string, fallback bool) (bool, error) {
	value, ok := s.LookupConfig(name)
	if !ok {
		return fallback, nil
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, errors.New("config " + name + "=" + value + ": must be true or false")
	}
	return b, nil
}

// parse reads a setup block. Assets and config values stay views of it.
func (e *environment) parse(block []byte) {
	block = block[:flat.Load32(block, 0)]
	at := flat.SetupHeaderBytes
	var name []byte
	name, at = flat.Take(block, at, flat.Load32(block, 8))
	e.deployment = string(name)
	e.inputs, at = takeNames(block, at, flat.Load32(block, 12))
	e.outputs, at = takeNames(block, at, flat.Load32(block, 16))
	e.config, at = takePairs(block, at, flat.Load32(block, 20))
	e.assets, _ = takePairs(block, at, flat.Load32(block, 24))
}

func takeNames(block []byte, at int, count uint32) (names []string, end int) {
	for ; count > 0; count-- {
		var name []byte
		name, at = flat.Take(block, at+4, flat.Load32(block, at))
		names = append(names, string(name))
	}
	return names, at
}

func takePairs(block []byte, at int, count uint32) (pairs []pair, end int) {
	for ; count > 0; count-- {
		nameLen, valueLen := flat.Load32(block, at), flat.Load32(block, at+4)
		var name, value []byte
		name, at = flat.Take(block, at+8, nameLen)
		value, at = flat.Take(block, at, valueLen)
		pairs = append(pairs, pair{name: string(name), value: value})
	}
	return pairs, at
}
