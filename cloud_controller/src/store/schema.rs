//! The tables, as `migrations/` makes them; a test compares the two.

diesel::table! {
    org_quotas (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        name -> Text,
        name_key -> Text,
        total_memory_mb -> Nullable<BigInt>,
        per_process_memory_mb -> Nullable<BigInt>,
        total_instances -> Nullable<BigInt>,
        per_app_tasks -> Nullable<BigInt>,
        log_rate_limit -> Nullable<BigInt>,
        paid_services -> Bool,
        total_service_instances -> Nullable<BigInt>,
        total_service_keys -> Nullable<BigInt>,
        total_routes -> Nullable<BigInt>,
        total_reserved_ports -> Nullable<BigInt>,
        total_domains -> Nullable<BigInt>,
    }
}

diesel::table! {
    orgs (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        name -> Text,
        name_key -> Text,
        suspended -> Bool,
        deleting -> Bool,
        quota_guid -> Text,
    }
}

diesel::table! {
    space_quotas (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        name -> Text,
        name_key -> Text,
        org_guid -> Text,
        total_memory_mb -> Nullable<BigInt>,
        per_process_memory_mb -> Nullable<BigInt>,
        total_instances -> Nullable<BigInt>,
        per_app_tasks -> Nullable<BigInt>,
        log_rate_limit -> Nullable<BigInt>,
        paid_services -> Bool,
        total_service_instances -> Nullable<BigInt>,
        total_service_keys -> Nullable<BigInt>,
        total_routes -> Nullable<BigInt>,
        total_reserved_ports -> Nullable<BigInt>,
    }
}

diesel::table! {
    spaces (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        name -> Text,
        name_key -> Text,
        org_guid -> Text,
        suspended -> Bool,
        deleting -> Bool,
        allow_ssh -> Bool,
        quota_guid -> Nullable<Text>,
    }
}

diesel::table! {
    users (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        username -> Nullable<Text>,
        username_key -> Nullable<Text>,
        origin -> Nullable<Text>,
    }
}

diesel::table! {
    roles (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        kind -> Text,
        user_guid -> Text,
        org_guid -> Text,
        space_guid -> Nullable<Text>,
        scope_guid -> Text,
    }
}

diesel::table! {
    domains (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        name -> Text,
        internal -> Bool,
        org_guid -> Nullable<Text>,
    }
}

diesel::table! {
    domain_shares (domain_guid, org_guid) {
        domain_guid -> Text,
        org_guid -> Text,
    }
}

diesel::table! {
    routes (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        space_guid -> Text,
        domain_guid -> Text,
        host -> Text,
        host_key -> Text,
        path -> Text,
        path_key -> Text,
        port -> Integer,
        options -> Nullable<Text>,
    }
}

diesel::table! {
    route_shares (route_guid, space_guid) {
        route_guid -> Text,
        space_guid -> Text,
    }
}

diesel::table! {
    stacks (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        name -> Text,
        description -> Text,
        state -> Text,
        state_reason -> Text,
        is_default -> Bool,
    }
}

diesel::table! {
    feature_flags (name) {
        name -> Text,
        enabled -> Bool,
        custom_error_message -> Nullable<Text>,
        updated_at -> BigInt,
    }
}

diesel::table! {
    env_groups (name) {
        name -> Text,
        env -> Binary,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    audit_events (guid) {
        guid -> Text,
        created_at -> BigInt,
        kind -> Text,
        actor_guid -> Text,
        actor_kind -> Text,
        actor_name -> Text,
        target_guid -> Text,
        target_kind -> Text,
        target_name -> Text,
        data -> Text,
        space_guid -> Nullable<Text>,
        org_guid -> Nullable<Text>,
    }
}

diesel::table! {
    labels (kind, resource_guid, key) {
        kind -> Text,
        resource_guid -> Text,
        key -> Text,
        value -> Text,
    }
}

diesel::table! {
    annotations (kind, resource_guid, key) {
        kind -> Text,
        resource_guid -> Text,
        key -> Text,
        value -> Text,
    }
}

diesel::table! {
    jobs (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        operation -> Text,
        state -> Text,
        resource_kind -> Nullable<Text>,
        resource_guid -> Nullable<Text>,
        errors -> Text,
        warnings -> Text,
        payload -> Nullable<Text>,
    }
}

diesel::table! {
    change_counter (id) {
        id -> Integer,
        newest -> BigInt,
    }
}

diesel::table! {
    desired_changes (kind, object_guid) {
        kind -> Text,
        object_guid -> Text,
        change -> BigInt,
        gone -> Bool,
        changed_at -> BigInt,
        payload -> Text,
    }
}

diesel::table! {
    blob_garbage (key) {
        key -> Text,
        created_at -> BigInt,
    }
}

diesel::table! {
    apps (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        name -> Text,
        name_key -> Text,
        space_guid -> Text,
        state -> Text,
        lifecycle -> Text,
        buildpacks -> Text,
        stack -> Nullable<Text>,
        env -> Nullable<Binary>,
        droplet_guid -> Nullable<Text>,
        ssh_enabled -> Bool,
        revisions_enabled -> Bool,
        binding_k8s_enabled -> Bool,
        file_based_services_enabled -> Bool,
    }
}

diesel::table! {
    processes (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        app_guid -> Text,
        kind -> Text,
        version -> Text,
        command -> Nullable<Text>,
        process_user -> Nullable<Text>,
        instances -> Integer,
        memory_mb -> Integer,
        disk_mb -> Integer,
        log_rate_limit -> BigInt,
        health_type -> Text,
        health_timeout_s -> Nullable<Integer>,
        health_invocation_timeout_s -> Nullable<Integer>,
        health_interval_s -> Nullable<Integer>,
        health_endpoint -> Nullable<Text>,
        readiness_type -> Text,
        readiness_invocation_timeout_s -> Nullable<Integer>,
        readiness_interval_s -> Nullable<Integer>,
        readiness_endpoint -> Nullable<Text>,
    }
}

diesel::table! {
    destinations (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        route_guid -> Text,
        app_guid -> Text,
        process_type -> Text,
        port -> Integer,
        protocol -> Text,
        weight -> Nullable<Integer>,
    }
}

diesel::table! {
    packages (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        app_guid -> Text,
        kind -> Text,
        state -> Text,
        sha1 -> Nullable<Text>,
        sha256 -> Nullable<Text>,
        size_bytes -> Nullable<BigInt>,
        error -> Nullable<Text>,
    }
}

diesel::table! {
    builds (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        app_guid -> Text,
        package_guid -> Text,
        state -> Text,
        error_id -> Nullable<Text>,
        error -> Nullable<Text>,
        droplet_guid -> Nullable<Text>,
        buildpacks -> Text,
        stack -> Text,
        memory_mb -> Integer,
        disk_mb -> Integer,
        log_rate_limit -> BigInt,
        user_guid -> Text,
        user_name -> Text,
        user_email -> Text,
        droplet_sha256 -> Nullable<Text>,
        droplet_size_bytes -> Nullable<BigInt>,
        env -> Nullable<Binary>,
        skip_detect -> Bool,
    }
}

diesel::table! {
    versions (process_guid) {
        process_guid -> Text,
        version -> Text,
        created_at -> BigInt,
        droplet_guid -> Text,
        memory_mb -> Integer,
        disk_mb -> Integer,
        stack -> Text,
        spec -> Binary,
    }
}

diesel::table! {
    droplets (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        app_guid -> Text,
        package_guid -> Nullable<Text>,
        build_guid -> Nullable<Text>,
        state -> Text,
        error -> Nullable<Text>,
        stack -> Nullable<Text>,
        sha256 -> Nullable<Text>,
        size_bytes -> Nullable<BigInt>,
        process_types -> Text,
        buildpacks -> Text,
        execution_metadata -> Text,
    }
}

diesel::table! {
    buildpacks (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        name -> Text,
        stack -> Nullable<Text>,
        stack_key -> Text,
        lifecycle -> Text,
        position -> Integer,
        enabled -> Bool,
        locked -> Bool,
        state -> Text,
        filename -> Nullable<Text>,
        sha256 -> Nullable<Text>,
        size_bytes -> Nullable<BigInt>,
    }
}

diesel::table! {
    resources (space_guid, sha1, size_bytes) {
        space_guid -> Text,
        sha1 -> Text,
        sha256 -> Text,
        size_bytes -> BigInt,
        created_at -> BigInt,
        used_at -> BigInt,
    }
}

diesel::table! {
    service_brokers (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        name -> Text,
        url -> Text,
        username -> Text,
        password -> Binary,
        space_guid -> Nullable<Text>,
        state -> Text,
    }
}

diesel::table! {
    service_offerings (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        broker_guid -> Text,
        catalog_id -> Text,
        name -> Text,
        description -> Text,
        available -> Bool,
        bindable -> Bool,
        plan_updateable -> Bool,
        instances_retrievable -> Bool,
        bindings_retrievable -> Bool,
        allow_context_updates -> Bool,
        tags -> Text,
        requires -> Text,
        extra -> Nullable<Text>,
        dashboard_client_id -> Nullable<Text>,
    }
}

diesel::table! {
    service_plans (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        offering_guid -> Text,
        catalog_id -> Text,
        name -> Text,
        description -> Text,
        free -> Bool,
        available -> Bool,
        public -> Bool,
        bindable -> Nullable<Bool>,
        plan_updateable -> Nullable<Bool>,
        binding_rotatable -> Bool,
        extra -> Nullable<Text>,
        create_schema -> Nullable<Text>,
        update_schema -> Nullable<Text>,
        bind_schema -> Nullable<Text>,
        maximum_polling_s -> Nullable<BigInt>,
        maintenance_info -> Nullable<Text>,
    }
}

diesel::table! {
    service_plan_visibilities (plan_guid, org_guid) {
        plan_guid -> Text,
        org_guid -> Text,
    }
}

diesel::table! {
    service_instances (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        name -> Text,
        kind -> Text,
        space_guid -> Text,
        plan_guid -> Nullable<Text>,
        tags -> Text,
        dashboard_url -> Nullable<Text>,
        maintenance_info -> Nullable<Text>,
        broker_metadata -> Nullable<Text>,
        credentials -> Nullable<Binary>,
        syslog_drain_url -> Nullable<Text>,
        route_service_url -> Nullable<Text>,
        unusable -> Bool,
        op_type -> Text,
        op_state -> Text,
        op_description -> Text,
        op_created_at -> BigInt,
        op_updated_at -> BigInt,
    }
}

diesel::table! {
    service_instance_shares (instance_guid, space_guid) {
        instance_guid -> Text,
        space_guid -> Text,
        created_at -> BigInt,
    }
}

diesel::table! {
    service_bindings (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        kind -> Text,
        name -> Nullable<Text>,
        instance_guid -> Text,
        app_guid -> Nullable<Text>,
        route_guid -> Nullable<Text>,
        credentials -> Nullable<Binary>,
        syslog_drain_url -> Nullable<Text>,
        route_service_url -> Nullable<Text>,
        volume_mounts -> Nullable<Binary>,
        endpoints -> Nullable<Text>,
        op_type -> Text,
        op_state -> Text,
        op_description -> Text,
        op_created_at -> BigInt,
        op_updated_at -> BigInt,
    }
}

diesel::table! {
    service_operations (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        kind -> Text,
        step -> Text,
        resource_guid -> Text,
        user_guid -> Nullable<Text>,
        payload -> Binary,
        broker_operation -> Nullable<Text>,
        attempts -> Integer,
        next_at -> BigInt,
        deadline_at -> BigInt,
        lease_until -> BigInt,
        broker_guid -> Nullable<Text>,
        lease_owner -> Nullable<Text>,
    }
}

diesel::table! {
    service_usage_events (guid) {
        guid -> Text,
        position -> BigInt,
        created_at -> BigInt,
        state -> Text,
        space_guid -> Text,
        space_name -> Text,
        org_guid -> Text,
        instance_guid -> Text,
        instance_name -> Text,
        instance_kind -> Text,
        plan_guid -> Nullable<Text>,
        plan_name -> Nullable<Text>,
        offering_guid -> Nullable<Text>,
        offering_name -> Nullable<Text>,
        broker_guid -> Nullable<Text>,
        broker_name -> Nullable<Text>,
    }
}

diesel::table! {
    app_usage_events (guid) {
        guid -> Text,
        position -> BigInt,
        created_at -> BigInt,
        state -> Text,
        previous_state -> Text,
        app_guid -> Text,
        app_name -> Text,
        process_guid -> Text,
        process_kind -> Text,
        space_guid -> Text,
        space_name -> Text,
        org_guid -> Text,
        memory_mb -> Integer,
        previous_memory_mb -> Integer,
        instances -> Integer,
        previous_instances -> Integer,
    }
}

diesel::table! {
    workloads (guid) {
        guid -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        owner -> Text,
        name -> Text,
        volume_id -> Text,
        volume_mb -> Integer,
        volume_path -> Text,
        service_port -> Integer,
        container_port -> Integer,
        cell -> Nullable<Text>,
        deleting -> Bool,
        spec -> Binary,
    }
}

diesel::table! {
    workload_volumes (volume_id, dea) {
        volume_id -> Text,
        dea -> Text,
        app_guid -> Text,
        version -> Text,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    org_quotas,
    orgs,
    space_quotas,
    spaces,
    users,
    roles,
    domains,
    domain_shares,
    routes,
    route_shares,
    stacks,
    feature_flags,
    env_groups,
    audit_events,
    labels,
    annotations,
    jobs,
    change_counter,
    desired_changes,
    blob_garbage,
    apps,
    processes,
    destinations,
    packages,
    builds,
    droplets,
    buildpacks,
    resources,
    versions,
    app_usage_events,
    service_brokers,
    service_offerings,
    service_plans,
    service_plan_visibilities,
    service_instances,
    service_instance_shares,
    service_bindings,
    service_operations,
    service_usage_events,
    workloads,
    workload_volumes,
);
