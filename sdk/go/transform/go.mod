module github.com/millstream-io/millstream/sdk/go/transform

go 1.23
