"""Print the IAM policies that the commands need: `python -m milpath.sagemaker.policy role=... bucket=... [who=role]`."""

import json
import sys
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from milpath.config.command import command
from milpath.records.atomic_files import write_text
from milpath.sagemaker.account.least_privilege import COMMANDS, Place, person_policy, role_policy, trust_policy
from milpath.sagemaker.jobs.aws_account import require_role
from milpath.sagemaker.jobs.job_configs import POLICY
from milpath.sagemaker.jobs.job_settings import require_s3

WHO = ("person", "role", "trust")


def run(config: DictConfig) -> dict[str, Any]:
    """Print a policy, or write it to a file; AWS is not contacted.

    Args:
        config: The composed root of the `sagemaker_policy` command.

    Returns:
        The policy.

    Raises:
        ValueError: If a setting is missing or unknown.
    """
    words = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    who, path, commands = words.pop("who"), words.pop("file"), words.pop("commands")
    if who not in WHO:
        raise ValueError(f"who={who} must be one of {', '.join(WHO)}")
    if commands and who != "person":
        raise ValueError(
            f"commands={commands} are those of who=person; the policy of who={who} does not depend on them: leave them out"
        )
    require_role(words["role"], "role")
    for key in ("region", "bucket"):
        if not words[key]:
            raise ValueError(f"{key} must be given, such as {key}={'eu-central-1' if key == 'region' else 'my-slides'}")
    for key in ("read", "write"):
        for address in words[key]:
            require_s3(key, address)
    if words["mlflow"] is not None:
        from milpath.training.mlflow_log import require_mlflow_arn  # loads Lightning

        require_mlflow_arn("mlflow", words["mlflow"])
    place = Place(**words)
    policies = {"person": lambda: person_policy(place, commands or COMMANDS), "role": lambda: role_policy(place)}
    policy = policies.get(who, trust_policy)()
    text = json.dumps(policy, indent=2) + "\n"
    if path is None:
        sys.stdout.write(text)
    else:
        write_text(Path(path), text)
        sys.stdout.write(f"{path}: {len(policy['Statement'])} statements\n")
    return policy


@command(POLICY)
def main(config: DictConfig) -> None:
    """Run the command."""
    run(config)


if __name__ == "__main__":
    main()
