"""The commands of the command line: their modules, and the texts of their help."""

from __future__ import annotations

from typing import Final, NamedTuple


class Verb(NamedTuple):
    """One command: its module, and the texts of its help.

    The module is imported on use, and its `command` runs the command.
    """

    module: str
    summary: str
    description: str
    examples: str


VERBS: Final = {
    "advise": Verb(
        "simulators.commands.advise",
        "estimate what demand costs and how to buy its capacity",
        "Estimate what a journal's or a scenario's demand costs, and compare ways to buy its\n"
        "capacity: reserved, on-demand or spot, other GPUs, a managed API (docs/how-to/advise.md).",
        "forescale advise config/scenarios/chat.yaml\nforescale advise journal --offers offers.yaml --html advice.html",
    ),
    "approve": Verb(
        "scaler.commands.approve",
        "approve the plan of a pool that buys units",
        "Approve the plan of a pool that buys provisioned units, by its identifier. The approval is\n"
        "written into the workload's file, which keeps its comments (docs/how-to/bedrock.md).",
        "forescale approve claude-chat/claude b3121bbc60d8 claude.yaml",
    ),
    "calibrate": Verb(
        "simulators.commands.calibrate",
        "fit a service model to recorded runs of an engine",
        "Fit a service model to recorded runs of an engine, and report its errors on runs that\n"
        "the fit has not seen (docs/explanation/calibration.md).",
        "forescale calibrate runs/\nforescale calibrate runs/ --model llama-3.1-8b-l40s --out mine.yaml",
    ),
    "check": Verb(
        "scaler.commands.check",
        "validate configuration files",
        "Validate configuration files and report all problems at once.",
        "forescale check config/quickstart\nforescale check chat.yaml --live",
    ),
    "compare": Verb(
        "simulators.commands.compare",
        "compare policies on one scenario",
        "Run a scenario under several policies, each with the same requests, start-up times and\n"
        "interruptions (docs/how-to/compare.md).",
        "forescale compare config/scenarios/chat.yaml --policies hpa,keda,oracle\n"
        "forescale compare config/scenarios/chat.yaml --policies static:replicas=6,oracle --html chat.html",
    ),
    "completion": Verb(
        "scaler.commands.completion",
        "print the completion script of a shell",
        "Print a script that completes commands, options and file names in bash, zsh or fish.",
        "forescale completion bash > ~/.local/share/bash-completion/completions/forescale\n"
        "forescale completion zsh > ~/.zfunc/_forescale    # with fpath+=~/.zfunc before compinit\n"
        "forescale completion fish > ~/.config/fish/completions/forescale.fish",
    ),
    "doctor": Verb(
        "scaler.commands.doctor",
        "show what each source and pool reports now",
        "Read every source and pool once, without writing, and show readings with their ages,\n"
        "sizes by zone and market, lead times and permissions.",
        "forescale doctor config/quickstart\nforescale doctor chat.yaml --json",
    ),
    "explain": Verb(
        "scaler.commands.explain",
        "explain why a size was chosen",
        "Explain a recorded decision: readings, each policy, each rule and the writes.",
        "forescale explain journal\nforescale explain journal --workload chat --at 2026-11-24T00:51:32Z",
    ),
    "import": Verb(
        "scaler.commands.import_",
        "convert HPAs and KEDA ScaledObjects to workload files",
        "Convert HorizontalPodAutoscalers and KEDA ScaledObjects to workload files (docs/how-to/import.md).\n"
        "Differences are listed on stderr and in the files. Exit code 1: something was not carried over.\n"
        "Exit code 2: no workload can be made.",
        "forescale import hpa.yaml --out chat.yaml\n"
        "kubectl get hpa,scaledobject -A -o yaml | forescale import - --out workloads/\n"
        "forescale import --cluster --namespace llm --out workloads/ --prometheus http://prometheus:9090",
    ),
    "models": Verb(
        "simulators.commands.models",
        "list the service models of the simulator",
        "List the shipped service models with their token rates, errors and sources, or show one\n"
        "of them, or a file of forescale calibrate (docs/reference/models.md).",
        "forescale models\nforescale models llama-3.1-8b-h100-vllm\nforescale models --json",
    ),
    "notify": Verb(
        "scaler.commands.notify",
        "send a test notice to each destination",
        "Send a test notice to each destination of daemon.notices, without reading a source or a\n"
        "pool (docs/how-to/notices.md). Exit code 1: a destination did not accept it.",
        "forescale notify config/\nforescale notify daemon.yaml chat.yaml --to oncall",
    ),
    "plan": Verb(
        "simulators.commands.plan",
        "plan provisioned throughput against pay-as-you-go",
        "Plan how many units of provisioned throughput to hold and for which terms: PTUs, GSUs,\n"
        "model units or a reserved tier (docs/how-to/provisioned-throughput.md).",
        "forescale plan tokens.csv --offers offers.yaml --html plan.html\n"
        "forescale plan journal --workload chat --offers offers.yaml --apply plan.sh\n"
        "forescale plan --units",
    ),
    "replay": Verb(
        "scaler.commands.replay",
        "repeat recorded decisions and compare them",
        "Decide again from recorded observations, and compare with the recorded decisions.\n"
        "Exit code 1: a decision differs under the recorded configuration.",
        "forescale replay journal\nforescale replay journal --config new.yaml --workload chat",
    ),
    "report": Verb(
        "simulators.commands.report",
        "summarize a live period from its journal",
        "Summarize a live period from its journal: what happened, what it cost, and what other\n"
        "policies would have done (docs/how-to/report.md).",
        "forescale report journal --html period.html\n"
        "forescale report journal --since 2026-11-02 --until 2026-11-09 --policy tuned.yaml",
    ),
    "run": Verb(
        "scaler.commands.run",
        "run the daemon",
        "Run the daemon: observe, decide, resize and record every workload, until Ctrl-C.",
        "forescale run config/quickstart --for 30\nforescale run chat.yaml --dry-run\nforescale run chat.yaml --once",
    ),
    "schema": Verb(
        "scaler.commands.schema",
        "print the JSON Schema of the configuration",
        "Print the JSON Schema of the configuration, for editors and CI.",
        "forescale schema > forescale.schema.json\nforescale schema --example > example.yaml",
    ),
    "shards": Verb(
        "scaler.commands.shards",
        "show which daemon holds which shard",
        "Show the holder and the epoch of each shard, its workloads, and the live daemons\n"
        "(docs/how-to/high-availability.md). Exit code 1: a shard has no holder.",
        "forescale shards /etc/forescale\nforescale shards /etc/forescale --json",
    ),
    "simulate": Verb(
        "simulators.commands.simulate",
        "run a scenario, or engines alone",
        "Run a scenario with the daemon's own controller in a simulated world, or engines alone\n"
        "at a fixed size (docs/how-to/simulate.md).",
        "forescale simulate config/scenarios/chat.yaml --html chat.html\n"
        "forescale simulate --model llama-3.1-8b-h100-vllm --replicas 3 --trace monday.csv.gz",
    ),
    "trace": Verb(
        "simulators.commands.trace",
        "describe, convert or generate request traces",
        "Describe, convert or generate request traces (docs/how-to/traffic.md).",
        "forescale trace describe chat.csv.gz --html chat.html\n"
        "forescale trace convert trace.jsonl busy.csv.gz --window 600:1800 --speed 2\n"
        "forescale trace generate flash_crowd base_rps=5 prompt.mean_tokens=800 --out crowd.csv.gz",
    ),
    "tune": Verb(
        "simulators.commands.tune",
        "search a workload's settings in the simulator",
        "Search a workload's settings in the simulator, and validate the best ones on held-out\n"
        "traffic (docs/how-to/tune.md).",
        "forescale tune config/scenarios/chat.yaml --budget 10m\n"
        "forescale tune scenario.yaml --trace monday.csv.gz --from hpa.yaml",
    ),
}
