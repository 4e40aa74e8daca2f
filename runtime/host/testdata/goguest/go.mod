module guest

go 1.24

require github.com/millstream-io/millstream/sdk/go/transform v0.0.0

replace github.com/millstream-io/millstream/sdk/go/transform => ../../../../sdk/go/transform
