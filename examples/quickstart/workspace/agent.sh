#!/bin/sh
# Stands for a coding agent: reads the workspace, uses a service, writes a file. Runs in the sandbox, as user `agent`.
set -eu
echo "task: $(cat TASK.md)"
reply=$(curl -fsS http://localhost:8080/)
echo "the web service says: $reply"
{
    echo "# Result"
    echo
    echo "The web service answered \`$reply\`."
    echo "Written by $(id -un) on $(uname -n), Linux $(uname -r)."
} >RESULT.md
echo "wrote RESULT.md"
