package kafkacluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// envDir is where jars are kept.
const envDir = "MILLSTREAM_SUITES_DIR"

//go:embed pom.xml
var pom []byte

// fetchJars returns the directory with the jars of a release, as pom.xml names them; the first time, Maven fetches them.
func fetchJars(ctx context.Context, version string) (string, error) {
	pom := bytes.Replace(pom, []byte(">"+DefaultVersion+"<"), []byte(">"+version+"<"), 1)
	dir := os.Getenv(envDir)
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("%w; set %s", err, envDir)
		}
		dir = filepath.Join(cache, "millstream", "suites")
	}
	dir = filepath.Join(dir, "kafka-cluster")
	sum := sha256.Sum256(pom)
	jars := filepath.Join(dir, "jars-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(jars); err == nil {
		return jars, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// Others may do the same at this moment: what is incomplete has another name.
	work, err := os.MkdirTemp(dir, "fetching-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	project := filepath.Join(work, "pom.xml")
	if err := os.WriteFile(project, pom, 0o644); err != nil {
		return "", err
	}
	fetched := filepath.Join(work, "jars")
	cmd := exec.CommandContext(ctx, "mvn", "-q", "-B", "-f", project, "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+fetched)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetch the jars of Apache Kafka: %w\n%s", err, out)
	}
	if err := os.Rename(fetched, jars); err != nil && !errors.Is(err, fs.ErrExist) {
		if _, there := os.Stat(jars); there != nil {
			return "", err
		}
	}
	return jars, nil
}
