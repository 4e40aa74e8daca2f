package wire

import "fmt"

// guard looks at the body of a request before it is decoded and refuses what
// would cost the decoder more time or memory than the bytes are worth.
func guard(key, version int16, body []byte) error {
	if key == keyApiVersions && len(body) > maxApiVersionsBytes {
		return fmt.Errorf("ApiVersions request v%d of %d bytes, at most %d", version, len(body), maxApiVersionsBytes)
	}
	return nil
}

// maxApiVersionsBytes leaves room for the longest name and version of a client.
const maxApiVersionsBytes = 4 << 10
