// Package cli puts the commands of the millstream binary together. Each group
// of commands is a package below it; package command is how a command is made.
package cli

import (
	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/demo"
	"github.com/millstream-io/millstream/cli/deployment"
	"github.com/millstream-io/millstream/cli/dlq"
	"github.com/millstream-io/millstream/cli/group"
	"github.com/millstream-io/millstream/cli/plugin"
	"github.com/millstream-io/millstream/cli/records"
	"github.com/millstream-io/millstream/cli/server"
	"github.com/millstream-io/millstream/cli/topic"
	"github.com/millstream-io/millstream/cli/txn"
	"github.com/millstream-io/millstream/cli/version"
	"github.com/millstream-io/millstream/cli/worker"
)

// New makes the app over the world that env gives. built is the version that the build was told, or "".
func New(env *command.Env, built string) *command.App {
	v := version.Of(built)
	return command.NewApp(env, "puts your code in the stream",
		server.New(env, v),
		worker.New(env, v),
		demo.New(env, v),
		plugin.NewInit(env),
		plugin.NewBuild(env),
		plugin.NewTest(env),
		plugin.New(env),
		deployment.NewDeploy(env),
		deployment.NewList(env),
		deployment.NewStatus(env),
		deployment.NewLogs(env),
		deployment.NewPause(env),
		deployment.NewResume(env),
		deployment.NewDelete(env),
		deployment.NewHistory(env),
		deployment.NewRollback(env),
		deployment.NewReset(env),
		dlq.New(env),
		topic.New(env),
		records.NewProduce(env),
		records.NewConsume(env),
		group.New(env),
		txn.New(env),
		version.New(env, v),
	)
}
