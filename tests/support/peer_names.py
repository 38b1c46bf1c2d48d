"""The public names of Prefect 3.9, by where they are found: what the migration page has to account for."""

from __future__ import annotations

NAMES = {
    "prefect": """
        __version__ allow_failure apause_flow_run aresume_flow_run aserve asuspend_flow_run deploy flow Flow get_client
        get_run_logger pause_flow_run resume_flow_run serve State suspend_flow_run tags task Task Transaction unmapped
    """,
    "prefect.futures": """
        PrefectFuture PrefectConcurrentFuture PrefectDistributedFuture PrefectFlowRunFuture PrefectWrappedFuture
        PrefectFutureList DoneAndNotDoneFutures wait as_completed resolve_futures_to_states resolve_futures_to_results
    """,
    "prefect.utilities.annotations": "unmapped allow_failure quote opaque freeze NotSet",
    "prefect.states": """
        Scheduled Completed Running Failed Crashed Cancelling Cancelled Pending Paused Suspended AwaitingRetry
        AwaitingConcurrencySlot Retrying Late Submitting InfrastructurePending StateType StateDetails StateGroup
        raise_state_exception get_state_exception is_state_iterable return_value_to_state exception_to_failed_state
        exception_to_crashed_state
    """,
    "prefect.tasks, prefect.flows": """
        exponential_backoff task_input_hash load_flow_from_entrypoint select_flow load_flow_arguments_from_entrypoint
        safe_load_flow_from_entrypoint
    """,
    "prefect.task_runners and integrations": """
        TaskRunner ThreadPoolTaskRunner ConcurrentTaskRunner ProcessPoolTaskRunner PrefectTaskRunner DaskTaskRunner
        get_dask_client get_async_dask_client PrefectDaskClient RayTaskRunner remote_options
    """,
    "prefect.cache_policies and locking": """
        CachePolicy Inputs TaskSource FlowParameters RunId CacheKeyFnPolicy CompoundCachePolicy INPUTS NONE NO_CACHE
        TASK_SOURCE FLOW_PARAMETERS RUN_ID DEFAULT LockManager MemoryLockManager FileSystemLockManager
    """,
    "prefect.results, serializers, filesystems": """
        ResultStore ResultRecord ResultRecordMetadata get_result_store should_persist_result Serializer PickleSerializer
        JSONSerializer CompressedSerializer CompressedPickleSerializer CompressedJSONSerializer LocalFileSystem
        RemoteFileSystem
    """,
    "prefect.concurrency, transactions": """
        concurrency rate_limit ConcurrencySlotAcquisitionError AcquireConcurrencySlotTimeoutError transaction
        atransaction Transaction get_transaction CommitMode IsolationLevel
    """,
    "prefect.logging, context, runtime": """
        get_run_logger disable_run_logger LogEavesdropper PrefectLogAdapter with_context get_run_context FlowRunContext
        TaskRunContext use_profile serialize_context hydrated_context id tags scheduled_start_time name flow_name
        flow_version parameters parent_flow_run_id parent_deployment_id root_flow_run_id run_count api_url ui_url
        job_variables task_name
    """,
    "prefect.artifacts, variables, blocks, input, assets": """
        create_link_artifact create_markdown_artifact create_table_artifact create_progress_artifact
        update_progress_artifact create_image_artifact Artifact Variable Block Secret RunInput send_input receive_input
        Asset AssetProperties materialize add_asset_metadata
    """,
    "prefect.deployments, schedules, runner, client, events": """
        run_deployment RunnerDeployment Runner Cron Interval RRule Schedule PrefectClient SyncPrefectClient TaskWorker
        emit_event Event EventTrigger CompoundTrigger SequenceTrigger MetricTrigger Automation
    """,
    "prefect.testing": "prefect_test_harness assert_does_not_warn exceptions_equal get_most_recent_flow_run",
    "prefect.exceptions": """
        PrefectException MissingContextError FailedRun CrashedRun CancelledRun PausedRun UnfinishedRun MissingResult
        UpstreamTaskError ParameterTypeError ParameterBindError SignatureMismatchError ReservedArgumentError
        MappingLengthMismatch MappingMissingIterable InvalidNameError ConfigurationError SerializationError HashError
        ObjectNotFound ObjectAlreadyExists FlowPauseTimeout FlowRunWaitTimeout NotPausedError MissingFlowError
        ScriptError Abort Pause TerminationSignal TaskRunTimeoutError FlowRunTimeoutError
    """,
    "options of @task": """
        name description tags version cache_policy cache_key_fn cache_expiration task_run_name retries
        retry_delay_seconds retry_jitter_factor persist_result result_storage result_storage_key result_serializer
        cache_result_in_memory timeout_seconds log_prints refresh_cache on_completion on_failure on_running
        retry_condition_fn viz_return_value asset_deps on_rollback on_commit
    """,
    "options of @flow": """
        name version flow_run_name retries retry_delay_seconds task_runner description timeout_seconds
        validate_parameters persist_result result_storage result_serializer cache_result_in_memory log_prints
        on_completion on_failure on_cancellation on_crashed on_running
    """,
    "methods and attributes": """
        .submit .map .with_options .fn .on_running .validate_parameters .serialize_parameters Flow.serve Flow.deploy
        Flow.to_deployment Flow.from_source Flow.visualize Flow.generate_mermaid_graph Task.delay Task.apply_async
        Task.serve .task_key .isasync .isgenerator .ismethod .source_code .wait .state .task_run_id .add_done_callback
        .type .name .message .data .timestamp .id .state_details .aresult
    """,
}
