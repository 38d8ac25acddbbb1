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
);
